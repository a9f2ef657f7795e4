"""The OpenSSH server of one host: its options, its keys and its files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from .command import RigError, program, run


def generate_key(path: Path) -> str:
    """Write a new key pair and return its public key, as ``ssh-ed25519 AAAA...``."""
    path.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "rig", "-f", str(path)])
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


class Sshd:
    """Files of one server in ``directory``; its host starts and stops it."""

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self._config = directory / "sshd_config"
        self._log = directory / "sshd.log"
        self._key = directory / "ssh_host_ed25519_key"
        self._pid_file = directory / "sshd.pid"
        self._refusal = directory / "sshd.refused"  # its options, and at once
        self._settings = {
            "HostKey": str(self._key),
            "PidFile": str(self._pid_file),
            "UsePAM": "no",
            "PermitRootLogin": "prohibit-password",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PrintMotd": "no",
            "PrintLastLog": "no",
            # No program whose path differs between distributions.
            "Subsystem": "sftp internal-sftp",
            **settings,
        }
        self.options: dict[str, str] = {}
        self.public_key = generate_key(self._key)

    def new_key(self) -> None:
        self.public_key = generate_key(self._key)

    def set_options(self, options: Mapping[str, str | None]) -> None:
        """Merge options into those set before; None takes one back."""
        for name, value in options.items():
            self.options.pop(name, None)
            if value is not None:
                self.options[name] = value

    def prepare(self) -> str:
        """Write the configuration; return the command line that starts the server."""
        ours = {name.lower() for name in self.options}
        lines = [f"{name} {value}" for name, value in self.options.items()]
        lines += [f"{k} {v}" for k, v in self._settings.items() if k.lower() not in ours]
        self._config.write_text("\n".join(lines) + "\n")
        self._pid_file.unlink(missing_ok=True)
        self._refusal.unlink(missing_ok=True)
        start = [program("sshd"), "-f", str(self._config), "-E", str(self._log)]
        return f"{shlex.join(start)} || : >{shlex.quote(str(self._refusal))}"

    def pid(self) -> int | None:
        """The listener's pid as its host sees it, written once it listens; None if it does not."""
        try:
            return int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def answered(self) -> bool:
        return self.pid() is not None or self._refusal.exists()

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def failure(self) -> RigError:
        return RigError(f"sshd did not start ({self._config}): {self.log()[-2000:].strip()}")
