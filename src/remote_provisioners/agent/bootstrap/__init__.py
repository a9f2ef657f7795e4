"""Starts agents: for a server, on an engine's node, and again after a kill."""
