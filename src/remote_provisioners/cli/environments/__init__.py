"""`jupyter remote scan`, `add` and `refresh`: the environments of hosts as kernelspecs."""
