"""Files of hosts."""
