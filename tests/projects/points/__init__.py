"""Points in the plane, to be told apart: the quickest task there is."""
