"""A model that returns its own loss, as those of Hugging Face do."""
