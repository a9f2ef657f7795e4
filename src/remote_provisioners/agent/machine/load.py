"""How busy this host is: cores, memory, and the kernels of every agent and user on it.

Each agent that has kernels writes their number to a small file that everybody can read, next to
the agents' directories. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from functools import partial
from typing import Callable, Iterable, List, Optional, Tuple

from ...protocol.wire import Message
from .. import apart
from ..background import Background
from ..log import say
from . import neighbours, public_file
from .gpus import Gpus
from .memory import meminfo

_COUNT_FILE = re.compile(r"remote-provisioners-(\d{1,10})-([0-9a-f]+(?:-[0-9a-f]+)?)\.kernels")
_COUNT = re.compile(rb"([1-9]\d{0,9}) (\d{1,4})\n")
#: Smaller changes (of the load per core, of the share of memory) are not reported.
_NOTABLE_LOAD = 0.25
_NOTABLE_MEMORY = 0.1


class Load:
    """Reports the load of this host and our part of it, on request and when it changes.

    `directory` is the agent's own, `running` returns how many kernels it runs, `tell` sends an
    event to every server.
    """

    def __init__(
        self, directory: str, running: Callable[[], int], tell: Callable[[Message], None]
    ) -> None:
        self._running = running
        self._tell = tell
        self._told: Optional[Message] = None
        self._has_news = self._telling = self._closed = False
        self._background = Background()
        self._publishing = threading.Lock()
        self.temporary = _shared_directory(os.path.dirname(os.path.dirname(directory)))
        agent = os.path.basename(directory)
        self.gpus = Gpus(self.temporary, agent)
        self._prefix = "remote-provisioners-{}-{}.".format(os.getuid(), agent)
        self._name = self._prefix + "kernels"
        self._path = os.path.join(self.temporary, self._name)
        self._published = False
        public_file.remove(self._path)  # left by an agent that was killed

    async def snapshot(self) -> Message:
        """The load now.

        ``load`` is the average of a minute; ``memory`` and ``memory_available`` are bytes;
        ``kernels`` counts the running kernels of all users, ``mine`` those of this agent; 0 stands
        for unknown. ``gpus_taken`` names the devices that kernels of any user have.
        """
        memory, mine = meminfo(), self._running()
        try:
            others, taken = await apart.turns.run(self.temporary, self._look)
        except OSError as error:  # it hangs
            say("cannot count the kernels of other users: {}".format(error))
            others, taken = 0, []
        return {
            "cores": cores(),
            "load": _load_average(),
            "memory": memory.get("MemTotal", 0),
            "memory_available": memory.get("MemAvailable", 0),
            "kernels": mine + others,
            "mine": mine,
            "gpus_taken": taken,
        }

    async def of_others(self) -> int:
        """How many kernels run that are not this agent's. Raises OSError."""
        others, _ = await apart.turns.run(self.temporary, self._look)
        return others

    def _look(self) -> Tuple[int, List[str]]:
        """The kernels of other agents, and the devices that are taken. Called in a thread, in turn
        with what writes our files.
        """
        try:
            names = os.listdir(self.temporary)
        except OSError:
            names = []
        for draft in (name for name in names if name.startswith(self._prefix)):
            if draft.endswith(public_file.DRAFT):  # an agent was killed while it wrote
                public_file.remove(os.path.join(self.temporary, draft))
        public_file.keep(self._path)
        others = kernels_of_others(self.temporary, names, self._name)
        return others, self.gpus.taken()

    def changed(self) -> None:
        """Report the load if it has changed, once for all changes of this moment."""
        self._has_news = True
        if not self._telling:
            self._telling = True
            self._background.run(self._tell_all(), "telling the load", self._told_all)

    async def _tell_all(self) -> None:
        """Tell the servers and the other agents if something notable has changed."""
        while self._has_news:
            self._has_news = False
            now = await self.snapshot()
            if notable(self._told, now):
                self._told = now
                apart.turns.begin(self.temporary, partial(self._publish, now["mine"]))
                self._tell({"event": "load", **now})
        self._told_all()

    def _told_all(self) -> None:
        self._telling = False

    def close(self) -> None:
        """The agent and its kernels end: remove the file that counts them."""
        self._background.cancel()
        self.gpus.close()
        with self._publishing:
            self._closed = True
            public_file.remove(self._path)

    def _publish(self, mine: int) -> None:
        """Write the file with the number of our kernels; remove it when we have none.

        Called in a thread.
        """
        with self._publishing:
            if self._closed:
                return
            if not mine:
                if self._published:
                    public_file.remove(self._path)
                self._published = False
                return
            try:
                public_file.put(self._path, "{} {}\n".format(os.getpid(), mine))
                self._published = True
            except OSError:
                pass  # the disk is full, or the name is another user's: we are not counted


def _shared_directory(parent: str) -> str:
    """A directory that all users share: /tmp, if the agents' directories are in a private one."""
    own = ("/run/user/{}".format(os.getuid()), os.path.expanduser("~"))
    return "/tmp" if parent in own else parent


def notable(before: Optional[Message], now: Message) -> bool:
    """Whether a receiver of `before` (None: nothing yet) should get `now`."""
    if before is None:
        return True
    if any(before[name] != now[name] for name in ("kernels", "mine", "gpus_taken", "cores")):
        return True
    load = abs(now["load"] - before["load"]) / now["cores"]
    memory = abs(now["memory_available"] - before["memory_available"]) / max(1, now["memory"])
    return bool(load >= _NOTABLE_LOAD or memory >= _NOTABLE_MEMORY)


def cores() -> int:
    """The cores that the agent and its kernels may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def kernels_of_others(temporary: str, names: Iterable[str], own: str = "") -> int:
    """How many kernels other agents run, by the files `names` in `temporary`; `own` is ours."""
    total = 0
    for name in names:
        match = _COUNT_FILE.fullmatch(name)
        if match is not None and name != own:
            path = os.path.join(temporary, name)
            total += _count_in(path, int(match.group(1)), match.group(2))
    return total


def _count_in(path: str, uid: int, digest: str) -> int:
    """The number in a file, if `uid`'s agent of this digest wrote it and still lives; else 0."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != uid:
                return 0
            match = _COUNT.fullmatch(os.read(descriptor, 64))
        finally:
            os.close(descriptor)
        if match is None:
            return 0
        pid = int(match.group(1))
        if neighbours.user_of(pid) != uid or not neighbours.is_agent(pid, digest):
            return 0
    except OSError:
        return 0
    # Each kernel leads a session, so a user cannot have more kernels than sessions.
    return min(int(match.group(2)), _sessions_of(uid))


def _sessions_of(uid: int) -> int:
    """How many processes of a user lead a session; the agent does not (find_or_start.py)."""
    count = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat("/proc/" + name).st_uid == uid:
                count += os.getsid(int(name)) == int(name)
        except OSError:
            continue  # it has just ended, or we may not examine it
    return count


def _load_average() -> float:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return 0.0
