"""Why a pod has ended."""

from __future__ import annotations

from .cluster import Cluster
from .pod import read_state

#: Events with the reason why a pod is gone.
_TOLD = ("Evicted", "Preempted", "TaintManagerEviction", "NodeNotReady", "Killing", "OOMKilling")


async def why_ended(cluster: Cluster, namespace: str, name: str) -> str:
    """Why a pod has ended; "" if it has not. Raises HostError."""
    pod = await cluster.read(namespace, name)
    if pod is not None:
        return read_state(pod).end
    told = [e for e in await cluster.events(namespace, name) if e.get("reason") in _TOLD]
    for event in sorted(told, key=lambda e: _TOLD.index(e["reason"])):
        if event["reason"] != "Killing":
            return f"it was deleted; {event['reason']}: {event.get('message', '')}"
    return "it was deleted"
