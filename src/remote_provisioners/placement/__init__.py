"""Where a kernel goes. Pure: no module here does I/O."""
