"""YARN's cluster mode."""
