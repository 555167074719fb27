"""Super-resolution: pictures at twice their size, scored by their peak signal-to-noise ratio."""
