"""What subjects are made from, and what a subject is."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .environments import as_installed, virtual_environment
from .hosts import Host, HostUnusable

KERNEL_NAME = "bench"
MANY_NAME = "bench-many"
OTHER_NAME = "bench-other"


@dataclass(frozen=True)
class Setting:
    """The rig, and the places that the harness may write to."""

    environ: Mapping[str, str]  # of a client: its HOME holds .ssh with a key and known hosts
    hosts: tuple[Host, ...]
    cache: Path  # kept between runs
    scratch: Path  # private to this run; short, as unix sockets are made below it
    shared: Path  # private to this run, and at the same path on the hosts
    kernel_python: str  # runs every kernel, of every subject, here and on the hosts

    def client_environ(self, subject: str, jupyter_path: Path) -> dict[str, str]:
        """The environment of a subject's client: nothing of the user's own Jupyter is in it."""
        home = self.scratch / subject
        # Made here, as an application would: not every provisioner makes it.
        (home / "runtime").mkdir(mode=0o700, parents=True, exist_ok=True)
        # What Jupyter, its provisioners or an ssh agent of the caller would add to some subjects.
        foreign = ("JUPYTER_", "IPYTHON", "KERNEL_", "GP_", "RP_", "SSH_", "PYTHON")
        kept = {name: v for name, v in self.environ.items() if not name.startswith(foreign)}
        return {
            **kept,
            "JUPYTER_PATH": str(jupyter_path),
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "IPYTHONDIR": str(home / "ipython"),
        }


@dataclass(frozen=True)
class Subject:
    """One way to start a kernel."""

    name: str
    python: Path  # of the client: runs the worker
    environ: Mapping[str, str]
    # Where its kernels start: at first one host, many at once on all. None for the local kernel.
    hosts: tuple[Host, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    many_name: str = KERNEL_NAME  # the kernelspec of many at once
    other_name: str = KERNEL_NAME  # the kernelspec of the second host, if there is one
    settle: float = 0.0  # seconds of rest before a start that is measured

    @property
    def host(self) -> Host | None:
        return self.hosts[0] if self.hosts else None


def kernelspecs(hosts: tuple[Host, ...]) -> dict[str, tuple[Host, ...]]:
    """Those of a subject with several hosts: for each, where its kernels start."""
    return {KERNEL_NAME: hosts[:1], OTHER_NAME: hosts[1:2], MANY_NAME: hosts}


def write_kernelspec(
    jupyter_path: Path, spec: Mapping[str, object], name: str = KERNEL_NAME
) -> None:
    directory = jupyter_path / "kernels" / name
    directory.mkdir(parents=True)
    (directory / "kernel.json").write_text(json.dumps(spec, indent=2))


def kernel_python(cache: Path, hosts: tuple[Host, ...]) -> str:
    """An interpreter that runs the same kernel here and on every host.

    Our own base interpreter where the hosts' user may run it, else the system's: two different
    Pythons would not be a comparison. pycryptodomex is what the launcher of gateway_provisioners
    imports; nothing else uses it.
    """
    candidates = [os.path.realpath(sys.executable), "/usr/bin/python3"]
    for python in candidates:
        if all(host.has_python(python) for host in hosts):
            requirements = [*as_installed("ipykernel", "pyzmq", "jupyter_client"), "pycryptodomex"]
            interpreter = str(virtual_environment(cache / "kernel", python, requirements))
            for host in hosts:
                if not host.has_python(interpreter):
                    raise HostUnusable(
                        f"{interpreter} does not run on {host.alias}: "
                        "give --cache a directory that the hosts see"
                    )
            return interpreter
    raise HostUnusable(f"none of these runs on the hosts: {', '.join(candidates)}")
