"""The kernels of a server from one process to the next: their records, and their restore."""
