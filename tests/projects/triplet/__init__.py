"""Metric learning: batches of three, of which two belong together; there are no labels."""
