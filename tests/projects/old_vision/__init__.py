"""Coloured squares, in the manner of the 2018 course template."""
