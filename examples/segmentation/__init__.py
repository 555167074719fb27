"""Segmentation: which pixels of a photograph belong to what?"""
