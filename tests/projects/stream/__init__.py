"""Examples that come in a stream, of which nobody knows the length."""
