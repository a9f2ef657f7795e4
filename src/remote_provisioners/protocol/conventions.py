"""Conventions of both ends: names of sockets, channels, default values.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

from typing import Dict

#: The sockets in an agent's directory: of the channel of requests, and of clients' streams.
AGENT_SOCKET = "agent.sock"
STREAM_SOCKET = "streams.sock"
#: The file that the agent prints to.
AGENT_LOG = "agent.log"

#: A kernel's channels, in the order in which jupyter_client numbers ipc sockets.
CHANNELS = ("shell", "iopub", "stdin", "control", "hb")

#: The variable with the names of a kernel's GPUs.
GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"
#: Voila passes these to the kernel of a page: its address and its query. A pattern.
PAGE_VARIABLES = "VOILA_.*|QUERY_STRING|PATH_INFO|SCRIPT_NAME|SERVER_(NAME|PORT|PROTOCOL|SOFTWARE)"
#: How long a kernel lives without its server: a long weekend.
LEASE_SECONDS = 4 * 24 * 3600.0
#: Bytes of a kernel's output to keep while nobody listens: in memory, then on disk.
OUTPUT_MEMORY, OUTPUT_DISK = 64 * 1024 * 1024, 256 * 1024 * 1024


def ipc_ports() -> Dict[str, int]:
    """The ports of an ipc connection file, which are the numbers of the sockets."""
    return {channel + "_port": number for number, channel in enumerate(CHANNELS, 1)}
