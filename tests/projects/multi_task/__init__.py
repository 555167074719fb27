"""Two heads on one trunk: what kind an example is of, and how large it is."""
