"""Processes of kernels: spawning them, identifying them, finding them again.

Standard library only: this package travels to hosts."""
