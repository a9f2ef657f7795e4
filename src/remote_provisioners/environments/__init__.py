"""Environments of hosts, and their kernelspecs on this machine."""
