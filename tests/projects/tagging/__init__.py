"""Sequence tagging: a tag for each word, in sentences of different lengths."""
