"""Files of this host, for servers of this user."""
