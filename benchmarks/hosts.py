"""A remote host as a benchmark sees it: reached as a user would, set back, and counted."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tests.rig

from .command import CommandFailed, attempt
from .measures import Facts

OUTLIVED_LIMIT = 5.0

# Sets a host back to "never met": nothing of the user runs, and files are those of the beginning.
# Refuses to touch anything if it finds itself in the network of the machine that sent it.
RESET = """
import json, os, pwd, shutil, signal, sys, time
from contextlib import suppress

outside, pristine = sys.argv[1], json.loads(sys.argv[2])
here = os.readlink("/proc/self/ns/net")
if here == outside:
    sys.exit("not a host of its own")

def mine():
    keep, pid = {1}, os.getpid()
    while pid > 1:
        keep.add(pid)
        with open(f"/proc/{pid}/stat") as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in keep:
            with suppress(OSError):
                with open(f"/proc/{name}/stat") as file:
                    head, _, tail = file.read().rpartition(")")
                owned = os.stat(f"/proc/{name}").st_uid == os.getuid()
                near = os.readlink(f"/proc/{name}/ns/net") == here
                server = head.partition("(")[2].startswith("sshd")
                if owned and near and not server and tail.split()[0] != "Z":
                    yield int(name)

def belongings():
    home = pwd.getpwuid(os.getuid()).pw_dir
    for place in (home, "/tmp", "/var/tmp", "/dev/shm", f"/run/user/{os.getuid()}"):
        with suppress(OSError):
            for entry in os.scandir(place):
                if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                    yield entry.path

if pristine is not None:
    deadline = time.monotonic() + 10
    while pids := list(mine()):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            sys.exit(f"still running: {pids}")
        time.sleep(0.02)
    for path in set(belongings()) - set(pristine):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
print(json.dumps(sorted(belongings())))
"""


@dataclass(frozen=True)
class Memory:
    """Of one process, in MB: its own, and with its share of what others use as well."""

    private: float
    proportional: float
    is_template: bool = False


def read_memory(rollup: str, argv: Sequence[str] = ()) -> Memory:
    """From the text of ``smaps_rollup``."""
    kilobytes = Counter[str]()
    for line in rollup.splitlines()[1:]:
        name, value, *_ = line.split()
        kilobytes[name.rstrip(":")] += int(value)
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    # The program of a template is its standard input.
    return Memory(private / 1024, kilobytes["Pss"] / 1024, list(argv[1:2]) == ["-"])


class HostUnusable(CommandFailed):
    """A host did not do what the benchmark needs of it."""


class Host:
    """One host of the rig. Its name is an alias in the client's ssh configuration."""

    def __init__(
        self, host: tests.rig.Host, ssh: list[str], via: tests.rig.Relay | None = None
    ) -> None:
        self.alias = (via or host).target
        self.address = (via or host).address
        self.port = (via or host).port
        self.user = host.user
        self._host = host
        self._command = ssh
        self._pristine: list[str] | None = None

    def setting(self, keyword: str) -> str:
        """What OpenSSH takes from its configuration for this host, e.g. for ``identityfile``."""
        shown = attempt([*self._command, "-G", self.alias])
        for line in shown.stdout.splitlines():
            name, _, value = line.partition(" ")
            if name == keyword:
                return value
        raise HostUnusable(f"ssh -G {self.alias} shows no {keyword}")

    def known_keys(self) -> str:
        """Known hosts that hold this one under its address, as it is looked up without an alias."""
        bracketed = f"[{self.address}]:{self.port}"
        wanted = self.address if self.port == 22 else bracketed
        lines: list[str] = []
        for file in self.setting("userknownhostsfile").split():
            for name in (self.alias, self.address, bracketed):
                found = attempt(["ssh-keygen", "-F", name, "-f", str(Path(file).expanduser())])
                keys = (line.split()[1:3] for line in found.stdout.splitlines() if line[0] != "#")
                lines += [" ".join([wanted, *key]) for key in keys]
        if not lines:
            raise HostUnusable(f"no key of {self.alias} is known")
        return "\n".join(dict.fromkeys(lines)) + "\n"

    def sshd_option(self, **options: str) -> None:
        """Configure the host's sshd: only for a subject that does not work with a stock one."""
        self._host.sshd_option(**options)

    def has_python(self, interpreter: str) -> bool:
        """Whether the user can run this interpreter on the host."""
        return self._ssh([interpreter, "-c", "pass"]).returncode == 0

    def reset(self, interpreter: str) -> None:
        """Make this host one that no client has met. The first call only notes what is there."""
        outside = os.readlink("/proc/self/ns/net")
        done = self._ssh([interpreter, "-", outside, json.dumps(self._pristine)], RESET)
        if done.returncode != 0:
            raise HostUnusable(f"{self.alias} was not set back: {done.stderr.strip()}")
        if self._pristine is None:
            self._pristine = json.loads(done.stdout)

    def facts(self) -> Facts:
        """What one sees on the host now."""
        connections = self._host.run(["ss", "-Htn", "state", "established"]).splitlines()
        outside = [line for line in connections if not _is_loopback(line.split()[2])]
        listeners = [at for at in self._host.listening() if not _is_loopback(at)]
        others = [at for at in listeners if not at.endswith(f":{self.port}")]
        return Facts(len(outside), tuple(others))

    def memory(self) -> dict[int, Memory]:
        """What each process of the host holds, sshd apart."""
        found = {}
        for process in self._host.processes():
            path = f"/proc/{process.pid}/smaps_rollup"
            if text := self._host.run(["cat", path], check=False, user=process.user):
                found[process.pid] = read_memory(text, process.argv)
        return found

    def run_on(self, cores: Iterable[int]) -> None:
        """Every process of the host, and what they start from now on."""
        each = 'for pid in /proc/[0-9]*; do taskset -acp "$0" "${pid#/proc/}"; done'
        self._host.run(["sh", "-c", each, ",".join(map(str, cores))], check=False)

    def outlived(self, pid: int) -> float:
        """How long a process still runs from now on, at most OUTLIVED_LIMIT seconds."""
        begun = time.monotonic()
        while any(process.pid == pid for process in self._host.processes()):
            if time.monotonic() - begun > OUTLIVED_LIMIT:
                return OUTLIVED_LIMIT
            time.sleep(0.01)
        return time.monotonic() - begun

    def _ssh(self, argv: list[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
        return attempt([*self._command, self.alias, "--", shlex.join(argv)], stdin=stdin)


def _is_loopback(endpoint: str) -> bool:
    return endpoint.startswith(("127.", "[::1]", "[::ffff:127."))
