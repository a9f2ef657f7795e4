"""A real Docker daemon of our own, and an image of this machine's own programs."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .containers import add_directories, add_links, unmount_below

STAYS = ["/bin/sh", "-c", "while :; do sleep 1; done"]


class Docker:
    """A daemon of our own, and the client for it."""

    def __init__(self, directory: Path) -> None:
        self.socket = f"unix://{directory}/docker.sock"
        self.program = shutil.which("docker") or ""
        words = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]
        words += [f"--data-root={directory}/data", f"--exec-root={directory}/exec"]
        words += [f"--pidfile={directory}/pid", f"--host={self.socket}"]
        # As where systemd runs it, containerd is another service, so the daemon can be killed.
        containerd = directory / "containerd"
        containerd.mkdir()
        (containerd / "config.toml").write_text(
            f'version = 2\nroot = "{containerd}/root"\nstate = "{containerd}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{containerd}/sock"\n'
        )
        words += [f"--containerd={containerd}/sock"]
        self._words, self._log = ["dockerd", *words], directory / "log"
        with open(directory / "containerd.log", "wb") as log:
            self._containerd = subprocess.Popen(
                ["containerd", f"--config={containerd}/config.toml"],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._start()

    def _start(self) -> None:
        with open(self._log, "ab") as log:
            self.daemon = subprocess.Popen(
                self._words, stdout=log, stderr=log, start_new_session=True
            )

    @contextlib.contextmanager
    def lost(self) -> Iterator[None]:
        """The daemon is killed, and is back after the block. Its containers end then."""
        self.daemon.kill()
        self.daemon.wait()
        try:
            yield
        finally:
            self._start()
            deadline = time.monotonic() + 30
            while not self.answers and time.monotonic() < deadline:
                time.sleep(0.1)

    def run(self, *words: str, stdin: bytes = b"") -> str:
        done = subprocess.run(
            [self.program, "-H", self.socket, *words],
            input=stdin,
            capture_output=True,
            check=True,
            timeout=60,
        )
        return done.stdout.decode().strip()

    @property
    def answers(self) -> bool:
        if self.daemon.poll() is not None:
            raise RuntimeError("dockerd does not run here")
        asked = subprocess.run(
            [self.program, "-H", self.socket, "info"], capture_output=True, check=False
        )
        return asked.returncode == 0

    def exec(self, name: str) -> list[str]:
        """The way into a container."""
        return [self.program, "-H", self.socket, "exec", "-i", name]

    def close(self) -> None:
        self.daemon.terminate()
        self.daemon.wait(30)
        self._containerd.terminate()
        self._containerd.wait(30)


def image() -> bytes:
    """The links of a distribution, to what is mounted."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add_links(tar)
        add_directories(tar, "tmp", "root", "etc", "home")
        for name, text in (
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home:/bin/sh\n"),
            ("etc/group", "root:x:0:\nbob:x:1000:\n"),
        ):
            file = tarfile.TarInfo(name)
            file.size, file.mode = len(text), 0o644
            tar.addfile(file, io.BytesIO(text.encode()))
    return buffer.getvalue()


@contextlib.contextmanager
def open_docker() -> Iterator[Docker]:
    """The daemon with the image `box`. Raises RuntimeError where none can run."""
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        raise RuntimeError("needs root, and Docker's daemon (docker.io)")
    directory = Path(tempfile.mkdtemp(prefix="docker-", dir="/var/tmp"))
    daemon = Docker(directory)
    try:
        deadline = time.monotonic() + 30
        try:
            while not daemon.answers:
                if time.monotonic() > deadline:
                    raise RuntimeError("no answer")
                time.sleep(0.05)
        except RuntimeError as error:
            said = (directory / "log").read_text()[-300:]
            raise RuntimeError(f"dockerd does not run here: {error}: {said}") from None
        daemon.run("import", "-", "box", stdin=image())
        yield daemon
    finally:
        daemon.close()
        unmount_below(directory)
        shutil.rmtree(directory)
