"""`jupyter remote doctor`: what is wrong with a host, and what to do."""
