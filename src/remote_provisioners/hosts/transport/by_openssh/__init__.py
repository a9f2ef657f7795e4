"""SSH by OpenSSH's own program."""
