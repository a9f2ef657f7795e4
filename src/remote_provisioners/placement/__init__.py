"""Where a kernel goes. `placer`, `host_placer` and `scheduler` act; all other modules decide."""
