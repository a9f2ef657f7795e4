"""Processes: spawned, found again, told apart.

Standard library only: this package travels to hosts."""
