"""`jupyter remote hosts`: which hosts are up and what runs on them."""
