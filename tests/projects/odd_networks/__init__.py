"""Networks of every odd kind, each by its name in `params.net`, on the same few numbers."""
