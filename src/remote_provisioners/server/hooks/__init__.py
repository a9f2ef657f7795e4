"""The only code that replaces methods of jupyter_server's managers or reads their private state.

Each function says why no public hook suffices. Tested with jupyter_server 2.21 and jupyter_client
8.10, and with the managers of jupyter_kernel_gateway 3.0 and jupyter-server-documents 0.3, which
derive from the same classes. Start, restart and restore are tested with jupyter_server 2.0 and
jupyter_client 8.6 too.
"""
