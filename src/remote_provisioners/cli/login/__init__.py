"""``jupyter remote login``."""
