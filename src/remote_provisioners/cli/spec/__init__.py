"""`jupyter remote spec`: sample kernelspecs, installed, listed, removed."""
