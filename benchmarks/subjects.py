"""The subjects by name: each function makes a kernelspec and what its client needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from .environments import installed
from .hosts import Host
from .peer_gateway_provisioners import gateway_provisioners
from .peer_sshpyk import sshpyk
from .setting import Setting, Subject, write_kernelspec

LOCAL = "local"
OURS = "ours"


def local(setting: Setting, host: Host) -> Subject:
    """ipykernel by jupyter_client's own provisioner: what everything is compared with."""
    jupyter_path = setting.scratch / "local-specs"
    argv = [setting.kernel_python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    write_kernelspec(
        jupyter_path, {"argv": argv, "display_name": "Benchmark", "language": "python"}
    )
    versions = {name: installed(name) or "?" for name in ("jupyter_client", "pyzmq")}
    environ = setting.client_environ(LOCAL, jupyter_path)
    return Subject(LOCAL, Path(sys.executable), environ, None, versions)


def ours(setting: Setting, host: Host) -> Subject:
    """This package, as its documentation says: a stanza in an ordinary kernel.json."""
    jupyter_path = setting.scratch / "ours-specs"
    config = {"remote_hosts": [host.alias], "python": setting.kernel_python}
    provisioner = {"provisioner_name": "distributed-provisioner", "config": config}
    write_kernelspec(
        jupyter_path,
        {
            "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Benchmark",
            "language": "python",
            "metadata": {"kernel_provisioner": provisioner},
        },
    )
    versions = {name: installed(name) or "?" for name in ("remote-provisioners", "asyncssh")}
    environ = setting.client_environ(OURS, jupyter_path)
    return Subject(OURS, Path(sys.executable), environ, host, versions)


MAKERS: Mapping[str, Callable[[Setting, Host], Subject]] = {
    LOCAL: local,
    OURS: ours,
    "gateway_provisioners": gateway_provisioners,
    "sshpyk": sshpyk,
}


def make_subject(name: str, setting: Setting) -> Subject:
    """One subject. Each remote one has a host of its own: what is seen there, it has done."""
    remote = [known for known in MAKERS if known != LOCAL]
    host = setting.hosts[remote.index(name) if name in remote else 0]
    return MAKERS[name](setting, host)
