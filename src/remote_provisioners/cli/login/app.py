"""``jupyter remote login``."""

from __future__ import annotations

import shutil
import subprocess
import time

from ...hosts.transport.by_openssh.master import check_command
from ...hosts.transport.ssh.reading import configuration_files, host_words
from ...placement.host_address import HostAddress
from ...placement.way_in import ASYNCSSH, COMMAND
from ..command import MISUSED, Command, CommandError
from ..configured import configured_hosts

#: A host may accept a login and then refuse the account.
_LOOK_SECONDS = 0.3

_NO_PATH = """\
~/.ssh/config has no ControlPath for {host}, so the server cannot use a login. Write there:

    Host {name}
        ControlMaster auto
        ControlPath ~/.ssh/master-%C
        ControlPersist 8h"""


class LoginApp(Command):
    name = "jupyter-remote-login"
    description = """Log in once to a host that asks for a second factor.

    Usage: jupyter remote login HOST

    The host's questions appear in this terminal: a second factor, the PIN of a smart card, a
    password. After that, kernels start on the host without a prompt, over this connection.
    ~/.ssh/config must set a ControlPath for the host.

    Exit codes: 0 logged in, 1 not logged in, 2 the command line is wrong.
    """
    examples = """
    jupyter remote login gpu1
    """
    reads_hosting_config = True

    def run(self) -> int:
        """Log in. Raises CommandError, RemoteProvisionerError."""
        names = self.words(1, "one host")
        if not names:
            raise CommandError("name the host to log in to (see --help)", MISUSED)
        if shutil.which("ssh") is None:
            raise CommandError("there is no program `ssh` here: install OpenSSH's client")
        place = configured_hosts(self, names)[0]
        if place.error:
            raise CommandError(place.error)
        address = place.host.address
        if address.is_here or address.way.kind == COMMAND:
            by = "without SSH" if address.is_here else f"by {address.way}"
            raise CommandError(f"{names[0]} is reached {by}: there is no login")
        if address.way.kind == ASYNCSSH:
            raise CommandError(
                f"{names[0]} is reached by asyncssh (option `connect`), which cannot use a login.\n"
                "Leave that option empty."
            )
        persist = _persistence(address, names[0])
        if _succeeds(check_command(address)):
            print(f"logged in to {names[0]} already{persist}")
            return 0
        # A forwarded port that is taken here must not stop the login (ExitOnForwardFailure).
        options = [*configuration_files(), "-o", "ClearAllForwardings=yes"]
        command = ["ssh", *options, "-M", "-N", "-f", *host_words(address)]
        if subprocess.run(command, check=False).returncode:
            raise CommandError(f"not logged in to {names[0]}")
        time.sleep(_LOOK_SECONDS)
        if not _succeeds(check_command(address)):
            raise CommandError(f"{names[0]} has closed the connection right after the login")
        print(f"logged in to {names[0]}{persist}")
        return 0


def _persistence(address: HostAddress, name: str) -> str:
    """How long a login lasts, as a sentence ends. Raises CommandError where nobody can use it."""
    # The program accepts ForkAfterAuthentication in the configuration only with -N.
    command = ["ssh", *configuration_files(), "-N", "-G", *host_words(address)]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode:
        raise CommandError(asked.stderr.strip() or "ssh -G failed")
    options = dict(line.split(" ", 1) for line in asked.stdout.splitlines() if " " in line)
    if options.get("controlpath", "none") == "none":
        raise CommandError(_NO_PATH.format(host=name, name=address.host))
    until = ": it lasts until the connection is lost"
    seconds = options.get("controlpersist", "no")
    if seconds.isdigit() and int(seconds):
        until += f", or {_duration(int(seconds))} after the last kernel there"
    return until


def _duration(seconds: int) -> str:
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit or seconds == unit:
            return f"{seconds / unit:g} {name if seconds > unit else name[:-1]}"
    return f"{seconds} seconds"


def _succeeds(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
