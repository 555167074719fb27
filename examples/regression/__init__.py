"""A number predicted from a table: the smallest complete task."""
