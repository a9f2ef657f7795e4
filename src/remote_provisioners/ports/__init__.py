"""Ports of a kernel's host on this machine."""
