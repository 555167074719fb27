"""A pretrained backbone, frozen at first, and a new head on it."""
