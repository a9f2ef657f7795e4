"""The start of a kernel: what the start needs, how far it is, and why it failed."""
