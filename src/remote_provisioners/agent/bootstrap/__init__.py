"""Starts agents: for a server, ahead of one in a container, on an engine's node, after a kill."""
