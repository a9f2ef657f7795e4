"""Environments of hosts, and the kernelspecs that are made of them here."""
