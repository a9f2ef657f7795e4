"""What this machine has and how busy it is.

Standard library only: this package travels to hosts."""
