"""`jupyter remote demo`: kernels on three throwaway SSH hosts of this machine."""
