"""A kernel as this process sees it, and the way of its clients to it."""
