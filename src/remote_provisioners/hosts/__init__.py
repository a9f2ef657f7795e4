"""The hosts that this process is connected to."""
