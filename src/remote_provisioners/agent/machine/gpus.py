"""GPUs: of all users' kernels, one at a time has a device. When it has ended, the device is free.

Each agent publishes which process has which device, in a separate file that everybody can read.
An entry counts while its process lives and belongs to the file's user. The process must be a kernel
(it leads a session), or the agent that starts one. So only a user who runs a kernel can keep a
device. To take a device, an agent publishes it and reads the other files again: if two agents do so
at the same moment, at least one sees the other. Standard library only: this module travels to
hosts.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import stat
import threading
import time
from functools import partial
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ...protocol.conventions import GPU_VARIABLE
from .. import apart
from ..log import say
from ..processes.process_identity import start_time, stat_of
from . import neighbours, public_file

_FILE = re.compile(
    r"remote-provisioners-(\d{1,10})-([0-9a-f]+(?:-[0-9a-f]+)?)(?:\.[0-9a-f]+)?\.gpus"
)
_ENTRY = re.compile(rb"([!-~]{1,1000}) ([1-9]\d{0,9}) (\d{1,20})")
_MOST_BYTES = 64 * 1024
#: Two agents that take the same device at the same moment may both give way, and try again.
_PATIENCE_SECONDS = 0.1


class NoDevicesError(Exception):
    """Too few devices are free. The message says how many, and who has the others."""


class Holder(NamedTuple):
    """The process that has a device, and its user."""

    pid: int
    uid: int

    def __str__(self) -> str:
        try:
            import pwd  # noqa: PLC0415 (most agents never need it)

            name = pwd.getpwuid(self.uid).pw_name
        except (ImportError, KeyError):
            name = "uid {}".format(self.uid)
        return "pid {} of {}".format(self.pid, name)


class Held:
    """Devices that a kernel has. `names` stay after `close`: a restart asks for the same ones."""

    def __init__(self, names: Sequence[str] = (), gpus: Optional[Gpus] = None) -> None:
        self.names = list(names)
        #: The pid and the start time of the kernel, or of its agent before there is one.
        self.process: Tuple[int, int] = (0, 0)
        self.closed = gpus is None
        self._gpus = gpus

    async def give_to(self, pid: int) -> None:
        """The kernel is this process. Raises OSError."""
        if self._gpus is not None and self.names:
            self.process = (pid, start_time(pid) or 0)
            await self._gpus.publish()

    def close(self) -> None:
        """The devices are free: the kernel has ended."""
        if self._gpus is not None and not self.closed:
            self.closed = True
            self._gpus.released(self)


class Gpus:
    """The devices that the kernels of this agent have, and those of others."""

    def __init__(self, temporary: str, agent: str) -> None:
        """`temporary`: a directory that all users share. `agent`: the name of ours."""
        self.temporary = temporary
        self._agent = agent
        self._path = self._path_with("")
        self._held: Dict[str, Held] = {}
        self._process = (os.getpid(), start_time(os.getpid()) or 0)
        self._closed = False
        self._writing = threading.Lock()

    # -- taking and giving back ---------------------------------------------------------------

    async def take(self, wanted: Mapping[str, Any], former: Optional[Held] = None) -> Held:
        """Take ``wanted["count"]`` of ``wanted["devices"]``, if possible those of `former`. Give
        back the other devices of `former`.

        Raises NoDevicesError, OSError; then nothing is taken, and `former` is as before.
        """
        former = former or Held()
        count, devices = int(wanted.get("count") or 0), wanted.get("devices") or ()
        held = Held((), self)
        if count > 0:
            attempt = partial(self._take, held, list(dict.fromkeys(devices)), count, former)
            try:
                await self._patiently(attempt)
            except BaseException:
                held.close()
                raise
        former.close()
        return held

    async def _patiently(self, attempt: Any) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                await apart.turns.run(self.temporary, attempt)
                return
            except NoDevicesError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(random.uniform(0.002, 0.02))  # noqa: S311

    def _take(self, held: Held, devices: List[str], count: int, former: Held) -> None:
        """One attempt. Called in a thread. Raises NoDevicesError, OSError."""
        others = self._others()
        free = [d for d in devices if d not in others and self._held.get(d) in (None, former)]
        chosen = sorted(free, key=lambda device: device not in former.names)[:count]
        if len(chosen) < count:
            raise NoDevicesError(self._lacking(count, devices, len(free), others))
        before = {name: self._held.get(name) for name in chosen}
        self._held.update(dict.fromkeys(chosen, held))
        held.process = self._process
        try:
            self._publish()
            others = self._others()
            if others.keys() & set(chosen):
                raise NoDevicesError(self._lacking(count, devices, 0, others))
        except BaseException:
            for name, holder in before.items():
                if holder is None or holder.closed:
                    self._held.pop(name, None)
                else:
                    self._held[name] = holder
            self._publish()
            raise
        held.names = [device for device in devices if device in chosen]
        if held.closed:  # nobody waits any more
            self._forget(held)
            self._publish()

    def _lacking(
        self, count: int, devices: Sequence[str], free: int, others: Mapping[str, Holder]
    ) -> str:
        text = "{} GPU{} wanted, {} of {} free".format(
            count, "" if count == 1 else "s", free, len(devices)
        )
        ours = {name: Holder(h.process[0], os.getuid()) for name, h in list(self._held.items())}
        holders = {**ours, **others}
        said = ["{} by {}".format(name, holders[name]) for name in devices if name in holders]
        return "; held: ".join(filter(None, [text, ", ".join(said)]))

    def keep(self, names: Sequence[str], pid: int, started: int) -> Held:
        """The devices of a kernel that was found by its record. Call :meth:`settle` later."""
        held = Held(names, self)
        held.process = (pid, started)
        self._held.update(dict.fromkeys(names, held))
        return held

    def settle(self) -> None:
        """Replace a killed agent's file by ours. Call this when we have all its kernels."""
        apart.turns.begin(self.temporary, self._settle)

    def _settle(self) -> None:
        self._publish()
        for name, uid, agent in self._files():
            path = os.path.join(self.temporary, name)
            if (uid, agent) == (os.getuid(), self._agent) and path != self._path:
                public_file.remove(path)

    def released(self, held: Held) -> None:
        """Publish that these devices are free."""
        if self._forget(held):
            apart.turns.begin(self.temporary, self._publish)

    def _forget(self, held: Held) -> bool:
        names = [name for name, holder in list(self._held.items()) if holder is held]
        for name in names:
            self._held.pop(name, None)
        return bool(names)

    # -- files ------------------------------------------------------------------------------

    def taken(self) -> List[str]:
        """The devices that kernels have. Called in a thread. Raises OSError."""
        public_file.keep(self._path)
        return sorted({*self._others(), *list(self._held)})

    async def publish(self) -> None:
        """Write our file. Raises OSError."""
        await apart.turns.run(self.temporary, self._publish)

    def close(self) -> None:
        """Remove our file: the agent and its kernels end."""
        with self._writing:
            self._closed = True
            public_file.remove(self._path)

    def _path_with(self, suffix: str) -> str:
        name = "remote-provisioners-{}-{}{}.gpus".format(os.getuid(), self._agent, suffix)
        return os.path.join(self.temporary, name)

    def _publish(self) -> None:
        """Write which process of ours has which device. Called in a thread. Raises OSError."""
        with self._writing:
            lines = [
                "{} {} {}\n".format(_quoted(name), *held.process)
                for name, held in list(self._held.items())
            ]
            if self._closed or not lines:
                public_file.remove(self._path)
                return
            try:
                public_file.put(self._path, "".join(lines))
            except (PermissionError, IsADirectoryError) as error:
                # Another user has made something of this name.
                say("{}: {}; using another name".format(self._path, error.strerror))
                self._path = self._path_with("." + os.urandom(8).hex())
                public_file.put(self._path, "".join(lines))

    def _others(self) -> Dict[str, Holder]:
        """The devices that kernels of other agents have. Raises OSError."""
        found: Dict[str, Holder] = {}
        for name, uid, agent in self._files():
            if (uid, agent) != (os.getuid(), self._agent):
                found.update(_entries(os.path.join(self.temporary, name), uid, agent))
        return found

    def _files(self) -> List[Tuple[str, int, str]]:
        """The files of agents: name, user, agent. Raises OSError."""
        matches = map(_FILE.fullmatch, os.listdir(self.temporary))
        return [(m.group(), int(m.group(1)), m.group(2)) for m in matches if m is not None]


def variables(gpus: Mapping[str, Any], held: Held, spec_env: Mapping[str, str]) -> Dict[str, str]:
    """The variable that names a kernel's devices: empty if it has none of those handed out here."""
    if held.names:
        return {GPU_VARIABLE: ",".join(held.names)}
    if gpus.get("devices") and GPU_VARIABLE not in spec_env:
        return {GPU_VARIABLE: ""}
    return {}


def _entries(path: str, uid: int, agent: str) -> Dict[str, Holder]:
    """The entries in the file of `uid`'s agent that count."""
    from urllib.parse import unquote  # noqa: PLC0415 (most agents never need it)

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return {}  # it has just been removed, or no agent has made it
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != uid:
            return {}
        lines = os.read(descriptor, _MOST_BYTES).split(b"\n")
    finally:
        os.close(descriptor)
    holders = {}
    for match in filter(None, map(_ENTRY.fullmatch, lines)):
        pid, started = int(match.group(2)), int(match.group(3))
        if _counts(pid, started, uid, agent):
            device = unquote(match.group(1).decode("ascii"), errors="surrogateescape")
            holders[device] = Holder(pid, uid)
    return holders


def _counts(pid: int, started: int, uid: int, agent: str) -> bool:
    """Whether this process is a kernel of `uid`, or the agent that starts one."""
    try:
        found = stat_of(pid)
        if found is None:
            return neighbours.is_hidden(pid) and neighbours.has_processes(uid)
        if found.started != started or found.ended:
            return False
        if found.session != pid and not neighbours.is_agent(pid, agent):
            return False
        # A kernel's program may become another user, as sudo does. Its agent stays its parent.
        return neighbours.user_of(pid) == uid or neighbours.user_of(found.parent) == uid
    except (FileNotFoundError, ProcessLookupError):
        return False  # it has just ended
    except OSError:
        return True  # it cannot be told at the moment (no descriptor is free)


def _quoted(device: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 (most agents never need it)

    return quote(device, safe="", errors="surrogateescape")
