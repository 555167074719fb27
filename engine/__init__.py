"""The machinery behind the scripts: one noun per module, and nothing here knows any task."""
