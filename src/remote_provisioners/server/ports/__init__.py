"""Web pages on ports of kernels' hosts, through this server."""
