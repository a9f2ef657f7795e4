"""`jupyter remote completion`: scripts that let a shell complete its commands."""
