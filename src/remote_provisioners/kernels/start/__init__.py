"""The start of a kernel: what it needs, how far it is, why it failed."""
