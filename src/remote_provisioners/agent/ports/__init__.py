"""Ports of this host on which programs of the user listen."""
