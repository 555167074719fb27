"""Ragged recordings in padded batches of dicts, with masks and file names."""
