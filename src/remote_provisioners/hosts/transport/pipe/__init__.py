"""A pipe: one process on the host, whose stdin and stdout carry everything."""
