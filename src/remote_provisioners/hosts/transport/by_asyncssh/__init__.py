"""SSH within this process, with asyncssh."""
