"""The subjects by name: each function makes kernelspecs and what its client needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from remote_provisioners.options.config import RemoteProvisionerConfigMixin

from . import peer_sshpyk
from .environments import installed
from .hosts import Host
from .peer_gateway_provisioners import gateway_provisioners
from .peer_sshpyk import sshpyk
from .setting import (
    MANY_NAME,
    OTHER_NAME,
    Setting,
    Subject,
    kernelspecs,
    write_kernelspec,
)

LOCAL = "local"
OURS = "forked"
IPYKERNEL = ("-m", "ipykernel_launcher", "-f", "{connection_file}")
#: One is made ready 2 s after the last start.
WARM_SECONDS = 3.5


def local(setting: Setting, hosts: tuple[Host, ...]) -> Subject:
    """ipykernel by jupyter_client's own provisioner: what everything is compared with."""
    jupyter_path = setting.scratch / "local-specs"
    argv = [setting.kernel_python, *IPYKERNEL]
    write_kernelspec(
        jupyter_path, {"argv": argv, "display_name": "Benchmark", "language": "python"}
    )
    versions = {name: installed(name) or "?" for name in ("jupyter_client", "pyzmq")}
    environ = setting.client_environ(LOCAL, jupyter_path)
    return Subject(LOCAL, Path(sys.executable), environ, (), versions)


def forked(setting: Setting, hosts: tuple[Host, ...]) -> Subject:
    """This package, as its documentation says: a stanza in an ordinary kernel.json."""
    return _ours(OURS, setting, hosts, ["python", *IPYKERNEL])


def spawned(setting: Setting, hosts: tuple[Host, ...]) -> Subject:
    """The same through a program that is no Python, which cannot be forked."""
    return _ours("spawned", setting, hosts, ["env", setting.kernel_python, *IPYKERNEL])


def openssh(setting: Setting, hosts: tuple[Host, ...]) -> Subject:
    """The same by the ssh program, in place of asyncssh within the server's process."""
    return _ours("openssh", setting, hosts, ["python", *IPYKERNEL], connect="openssh")


def command(setting: Setting, hosts: tuple[Host, ...]) -> Subject:
    """The same by a subprocess of this machine: what a pipe costs, without SSH."""
    login = [
        f"{name}={setting.environ[name]}" for name in ("HOME", "PATH") if name in setting.environ
    ]
    return _ours(
        "pipe", setting, hosts, ["python", *IPYKERNEL], connect=["env", "-i", *login], here=True
    )


def warm(setting: Setting, hosts: tuple[Host, ...]) -> Subject:
    """A kernel that is there already; each start that is measured finds one."""
    argv = ["python", *IPYKERNEL]
    return _ours("warm", setting, hosts, argv, settle=WARM_SECONDS, warm=1)


def _ours(
    name: str,
    setting: Setting,
    hosts: tuple[Host, ...],
    argv: Sequence[str],
    settle: float = 0.0,
    here: bool = False,
    **options: Any,
) -> Subject:
    """`here`: on this machine, which the options say how to reach."""
    jupyter_path = setting.scratch / f"{name}-specs"
    for kernel_name, used in kernelspecs(hosts).items():
        config = {
            "remote_hosts": ["here"] if here else [host.alias for host in used],
            "python": setting.kernel_python,
            **options,
        }
        provisioner = {"provisioner_name": "distributed-provisioner", "config": config}
        spec = {
            "argv": list(argv),
            "display_name": "Benchmark",
            "language": "python",
            "metadata": {"kernel_provisioner": provisioner},
        }
        write_kernelspec(jupyter_path, spec, kernel_name)
    versions = {name: installed(name) or "?" for name in ("remote-provisioners", "asyncssh")}
    environ = setting.client_environ(name, jupyter_path)
    return Subject(
        name,
        Path(sys.executable),
        environ,
        () if here else hosts,
        versions,
        MANY_NAME,
        OTHER_NAME,
        settle,
    )


MAKERS: dict[str, Callable[[Setting, tuple[Host, ...]], Subject]] = {
    LOCAL: local,
    OURS: forked,
    "spawned": spawned,
    "openssh": openssh,
    "pipe": command,
    "warm": warm,
    "gateway_provisioners": gateway_provisioners,
    "sshpyk": sshpyk,
}
if "warm" not in RemoteProvisionerConfigMixin.class_trait_names():
    del MAKERS["warm"]
#: gateway_provisioners' channels are no part of its SSH connections, which are what is delayed; a
#: bare pipe has none.
DELAYED: Mapping[str, Callable[[Setting, tuple[Host, ...]], Subject]] = {
    name: make
    for name, make in MAKERS.items()
    if name not in (LOCAL, "pipe", "gateway_provisioners")
}


def hosts_of(name: str, hosts: tuple[Host, ...]) -> tuple[Host, ...]:
    """Those that a subject may use: it is alone on them meanwhile, and they are set back.

    The last is sshpyk's, whose sshd is not a stock one.
    """
    return hosts[-1:] if name == peer_sshpyk.NAME else hosts[:-1]
