"""Points in batches that do not come out even, for processes to share, with losses, metrics, loaders of all kinds."""
