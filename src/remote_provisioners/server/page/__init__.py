"""``/remote-provisioners/``: hosts and kernels as a page, where there is no JupyterLab."""
