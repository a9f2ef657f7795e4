"""`jupyter remote spec`: install, list and remove sample kernelspecs."""
