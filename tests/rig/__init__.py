"""Real hosts on this one machine, for tests: each runs a real OpenSSH server.

    with open_rig(count=2) as rig:
        a, b = rig.hosts
        print(a.run(["hostname"]))
        a.power_off()

As root a host is a set of namespaces (:class:`NamespaceRig`) with its own name, address, users,
processes and ``/tmp``, and with faults to inject.  Otherwise a host is an unprivileged sshd on a
port of the loopback interface (:class:`LoopbackRig`): the same interface, but no faults.

Needs Linux, and Debian's packages openssh-server, openssh-client, iproute2, nftables, util-linux.
"""

from __future__ import annotations

import os
from typing import Literal

from .command import CommandError, RigError
from .host import Host
from .loopback import LoopbackRig
from .namespace import NamespaceRig
from .proc import Process
from .relay import Relay
from .rig import Rig

__all__ = [
    "CommandError",
    "Host",
    "LoopbackRig",
    "NamespaceRig",
    "Process",
    "Relay",
    "Rig",
    "RigError",
    "open_rig",
]


def open_rig(count: int = 3, *, kind: Literal["auto", "namespace", "loopback"] = "auto") -> Rig:
    """Return a rig of ``count`` hosts; they run from ``with`` to the end of its block.

    ``auto`` takes namespaces where root may make them: that is tried, not guessed.
    ``NamespaceRig.unavailable()`` says why they were not taken.
    """
    if kind == "auto":
        kind = "namespace" if os.geteuid() == 0 and not NamespaceRig.unavailable() else "loopback"
    return NamespaceRig(count) if kind == "namespace" else LoopbackRig(count)
