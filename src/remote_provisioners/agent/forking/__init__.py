"""Kernels by fork.

Standard library only: this package travels to hosts."""
