"""Forked kernels: templates and warm kernels.

Standard library only: this package travels to hosts."""
