"""One server, up to a thousand hosts and ten thousand kernels, on one machine.

``python -m benchmarks.simulation`` from the repository's root. The scheduler, hosts, kernels,
channels and policies are the real ones; behind an in-process transport, agents that are only
simulated speak the wire protocol: no SSH, no processes. What is measured is the server.
"""
