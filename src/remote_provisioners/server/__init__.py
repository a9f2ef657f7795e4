"""What lives inside a jupyter_server."""
