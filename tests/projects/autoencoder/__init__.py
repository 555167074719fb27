"""Inputs without labels, to be put into few numbers and back."""
