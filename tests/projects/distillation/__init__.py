"""Distillation: a small network learns from a large one that is trained already and stays as it is."""
