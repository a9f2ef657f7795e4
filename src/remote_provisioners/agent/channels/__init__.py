"""The sockets of a kernel's channels on this host."""
