"""``/remote-provisioners/``: a page with hosts and kernels, for servers without JupyterLab."""
