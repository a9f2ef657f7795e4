"""`jupyter remote doctor`: find out what is wrong with a host and what to do about it."""
