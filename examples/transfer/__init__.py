"""Transfer learning: your own photographs, seen by a network that knows a million others."""
