"""The demo's hosts, as their user sees them, and a home that can log in to them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

from ..command import CommandError
from ..spec.samples import DEFAULT_SAMPLE, samples, write_sample
from .agents import end_agents

NAMES = ("demo-a", "demo-b", "demo-c")

#: Variables that could lead to the hosts and kernels of the user who runs the demo.
_NOT_OURS = re.compile(r"RP_.*|KERNEL_.*|JUPYTER_.*|JPY_.*|SSH_.*|IPYTHONDIR|XDG_.*|TMPDIR")
_END_SECONDS = 20
_TEMPORARY = "/tmp"  # noqa: S108


class DemoSite:
    """Hosts on this machine, and a home that can log in to them. A context manager.

    Everything is below `directory` and ends with the context or with this process.
    """

    def __init__(self, names: Sequence[str] = NAMES) -> None:
        self.names = tuple(names)
        self.directory = Path()
        self._hosts: subprocess.Popen[str] | None = None

    def __enter__(self) -> DemoSite:
        """Start the hosts. Raises CommandError if they do not start."""
        # Paths of unix sockets must be short, and TMPDIR often is not.
        parent = _TEMPORARY if os.access(_TEMPORARY, os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(prefix="rp", dir=parent)).resolve()
        module = f"{__package__}.hosts"
        try:
            self._hosts = subprocess.Popen(
                [sys.executable, "-m", module, str(self.directory), *self.names],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # we handle Ctrl-C; they end when stdin closes
            )
            assert self._hosts.stdout is not None
            if not self._hosts.stdout.readline():
                raise CommandError("the SSH hosts did not start; see the output above")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def home(self) -> Path:
        """The home that can log in to the hosts."""
        return self.directory / "home"

    @property
    def environ(self) -> dict[str, str]:
        """The environment for that home, with a Jupyter without user-installed files."""
        environ = {k: v for k, v in os.environ.items() if not _NOT_OURS.fullmatch(k)}
        jupyter = self.home / "jupyter"
        return {
            **environ,
            "HOME": str(self.home),
            "TMPDIR": str(self._temporary),
            "JUPYTER_CONFIG_DIR": str(jupyter / "config"),
            "JUPYTER_DATA_DIR": str(jupyter / "data"),
            "JUPYTER_RUNTIME_DIR": str(jupyter / "runtime"),
            "IPYTHONDIR": str(self.home / ".ipython"),
        }

    def install_kernelspec(self, options: Mapping[str, Any]) -> str:
        """Install the sample kernelspec in that home. Returns its name."""
        data = self.environ["JUPYTER_DATA_DIR"]
        manager = KernelSpecManager(data_dir=data, kernel_dirs=[f"{data}/kernels"])
        with tempfile.TemporaryDirectory(dir=self._temporary) as temporary:
            source = Path(temporary, DEFAULT_SAMPLE)
            write_sample(samples()[DEFAULT_SAMPLE], source, "", options)
            manager.install_kernel_spec(str(source), DEFAULT_SAMPLE, user=True)
        return DEFAULT_SAMPLE

    def close(self) -> None:
        """End the hosts and everything on them, and remove the directory."""
        if self._hosts is not None:
            for pipe in (self._hosts.stdin, self._hosts.stdout):
                if pipe is not None:
                    pipe.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._hosts.wait(_END_SECONDS)
            if self._hosts.poll() is None:
                self._hosts.kill()
                self._hosts.wait()
        # The hosts' process has done this itself, unless it was killed.
        for host in self.directory.glob("?"):
            end_agents(host)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _temporary(self) -> Path:
        path = self.directory / "t"
        path.mkdir(0o700, exist_ok=True)
        return path
