"""The kernels of this host, from the request to the record.

Standard library only: this package travels to hosts."""
