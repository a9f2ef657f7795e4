"""`jupyter remote demo`: kernels on three temporary SSH hosts of this machine."""
