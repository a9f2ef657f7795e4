"""Engines: systems that choose the machine themselves. Each has its own package."""
