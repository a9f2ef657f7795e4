"""What a Jupyter server knows of hosts and kernels, as JSON; and what can be done with them."""
