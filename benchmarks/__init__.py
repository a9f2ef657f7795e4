"""Ratios of remote kernels to a local one, and of this package to its peers.

``python -m benchmarks`` from the repository's root measures every subject on real hosts, one
after the other within each round, and prints one table. Absolute figures belong to the machine
that they were taken on; the ratios to the local kernel of the same round travel.
"""
