"""The demo's hosts, from the side of whoever wants some, and a user who can log in to them."""

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

#: Of the environment of whoever runs the demo: nothing that leads to their hosts and kernels.
_NOT_OURS = re.compile(r"RP_.*|KERNEL_.*|JUPYTER_.*|JPY_.*|SSH_.*|IPYTHONDIR|XDG_.*|TMPDIR")
_END_SECONDS = 20
_TEMPORARY = "/tmp"  # noqa: S108


class DemoSite:
    """Hosts on this machine, and a home whose user can log in to them. A context manager.

    Everything is below `directory`, and ends with the context or with this process.
    """

    def __init__(self, names: Sequence[str] = NAMES) -> None:
        self.names = tuple(names)
        self.directory = Path()
        self._hosts: subprocess.Popen[str] | None = None

    def __enter__(self) -> DemoSite:
        """Raises CommandError when the hosts do not start."""
        # Hosts have unix sockets in there: a long path, as TMPDIR often is, is of no use.
        parent = _TEMPORARY if os.access(_TEMPORARY, os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(prefix="rp", dir=parent)).resolve()
        module = f"{__package__}.hosts"
        try:
            self._hosts = subprocess.Popen(
                [sys.executable, "-m", module, str(self.directory), *self.names],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for us; they end with their stdin
            )
            assert self._hosts.stdout is not None
            if not self._hosts.stdout.readline():
                raise CommandError("the SSH hosts did not start (why is said above)")
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
        """The home of the user who can log in."""
        return self.directory / "home"

    @property
    def environ(self) -> dict[str, str]:
        """The environment of that user, with a Jupyter that has nothing installed by users."""
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
        """Install the sample for that user. Returns its name."""
        data = self.environ["JUPYTER_DATA_DIR"]
        manager = KernelSpecManager(data_dir=data, kernel_dirs=[f"{data}/kernels"])
        with tempfile.TemporaryDirectory(dir=self._temporary) as temporary:
            source = Path(temporary, DEFAULT_SAMPLE)
            write_sample(samples()[DEFAULT_SAMPLE], source, "", options)
            manager.install_kernel_spec(str(source), DEFAULT_SAMPLE, user=True)
        return DEFAULT_SAMPLE

    def close(self) -> None:
        """End the hosts and whatever runs there, remove the directory."""
        if self._hosts is not None:
            for pipe in (self._hosts.stdin, self._hosts.stdout):
                if pipe is not None:
                    pipe.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._hosts.wait(_END_SECONDS)
            if self._hosts.poll() is None:
                self._hosts.kill()
                self._hosts.wait()
        # It has done this itself, unless it was killed.
        for host in self.directory.glob("?"):
            end_agents(host)
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _temporary(self) -> Path:
        path = self.directory / "t"
        path.mkdir(0o700, exist_ok=True)
        return path
