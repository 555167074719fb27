"""Small tasks of other kinds than the default one, for the tests."""
