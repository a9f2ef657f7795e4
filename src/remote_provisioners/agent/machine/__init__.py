"""The resources and the load of this machine.

Standard library only: this package travels to hosts."""
