"""The kernels of this host: starting, watching, recording and ending them.

Standard library only: this package travels to hosts."""
