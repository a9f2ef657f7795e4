"""`jupyter remote dashboard`: the configured hosts and their kernels in a browser."""
