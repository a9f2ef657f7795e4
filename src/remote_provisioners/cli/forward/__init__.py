"""``jupyter remote forward``: a port of a kernel's host on this machine."""
