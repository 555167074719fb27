"""Segmentation: which pixels of a picture belong to an object, where some pixels count for nothing."""
