"""Record, store and replay the output of kernels.

Standard library only: this package travels to hosts."""
