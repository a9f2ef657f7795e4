"""Programs of this machine: found, run, and their failures put into words."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence

# An unprivileged user's PATH often lacks the sbin directories, where sshd and ip live.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PACKAGES = {
    "bash": "bash",
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "unshare": "util-linux",
}


class RigError(Exception):
    """The rig cannot be brought up, or cannot do what was asked of it."""


class CommandError(RigError):
    """A program failed; ``status`` is None if it did not end in time."""

    def __init__(self, argv: Sequence[str], status: int | None, stdout: str, stderr: str) -> None:
        self.argv = list(argv)
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
        end = "did not end in time" if status is None else f"ended with status {status}"
        output = (stderr or stdout).strip()
        super().__init__(f"{self.argv} {end}" + (f": {output}" if output else ""))


def program(name: str) -> str:
    """Return the absolute path of a program."""
    if path := shutil.which(name, path=PATH):
        return path
    raise RigError(missing([name]))


def require(*names: str) -> None:
    """Raise one error that names every missing program, and what to install."""
    if absent := [name for name in names if not shutil.which(name, path=PATH)]:
        raise RigError(missing(absent))


def missing(names: Sequence[str]) -> str:
    packages = sorted({PACKAGES.get(name, name) for name in names})
    return (
        f"programs not found: {', '.join(names)}; "
        f"on Debian or Ubuntu: apt-get install --no-install-recommends {' '.join(packages)}"
    )


def run(
    argv: Sequence[str],
    *,
    stdin: str | bytes = b"",
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float = 20,
) -> str:
    """Run a program of this machine and return what it wrote to standard output."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    argv = [program(argv[0]), *argv[1:]]
    env = {"PATH": PATH, "LANG": "C.UTF-8"} if env is None else env
    try:
        done = subprocess.run(
            argv, input=data, env=env, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise CommandError(argv, None, _text(late.stdout), _text(late.stderr)) from None
    if check and done.returncode != 0:
        raise CommandError(argv, done.returncode, _text(done.stdout), _text(done.stderr))
    return _text(done.stdout)


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")
