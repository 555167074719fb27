"""A language model: the next character of a text, from those before it."""
