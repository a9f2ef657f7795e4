"""All that replaces methods of jupyter_server's managers, or reads what is private to them.

Each function says why no public hook serves. Nothing outside this package does so. Tried with
jupyter_server 2.21 and jupyter_client 8.10; with the managers of jupyter_kernel_gateway 3.0 and of
jupyter-server-documents 0.3, which derive from the same classes.
"""
