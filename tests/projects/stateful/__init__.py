"""The points, from loaders that say where they are and can be put back there."""
