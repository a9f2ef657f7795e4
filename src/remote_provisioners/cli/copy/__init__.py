"""``jupyter remote cp``: files between this machine and hosts."""
