"""What kernels print and publish: recorded, kept, replayed.

Standard library only: this package travels to hosts."""
