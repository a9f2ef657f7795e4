"""A kernel's process that an earlier agent started. It is not our child, but we look after it.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import select
import signal
import struct
from typing import Any, Callable, Mapping, Optional

from .kernel_process import OUTPUT, KernelProcess, exit_code_of
from .process_identity import boot_id, left_behind, stat_of

#: The exit code that we report when the system did not keep it.
UNKNOWN_EXIT_CODE = -1
_UNKNOWN = "its exit code is not known: the agent that had started it was killed"
_POLL_SECONDS = 0.5
# From <linux/pidfd.h>, since Linux 6.9 and 6.15.
_SIGNAL_GROUP = 4
_GET_INFO, _INFO_EXIT, _INFO_SIZE, _INFO_EXIT_CODE = 0xC040FF0B, 8, 64, 60


class ForeignProcess(KernelProcess):
    """A process identified by its pid and start time: never another process with the same pid.

    A descriptor (pidfd) reports its end where the system has pidfds; elsewhere we poll twice a
    second.
    """

    def __init__(
        self, pid: int, start_time: int, directory: str, kernel_id: str, gone: str = ""
    ) -> None:
        """`directory` is the kernel's. `gone`: why it cannot exist; then no process is examined.

        Raises OSError when the system cannot tell at the moment whether the process exists.
        """
        super().__init__(pid, os.path.join(directory, OUTPUT))
        self.start_time = start_time
        self._directory = directory
        self._kernel_id = kernel_id
        #: Why its exit code is not known.
        self._note = ""
        self._timer: Optional[asyncio.TimerHandle] = None
        self._descriptor: Optional[int] = None
        # The loop that watches the descriptor.
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        if gone:
            self.returncode, self._note = UNKNOWN_EXIT_CODE, gone
            return
        self._descriptor = _pidfd(pid)
        try:
            found = stat_of(pid)
        except OSError:
            self._close()
            raise
        if found is None or found.started != start_time:
            self._close()  # it is no pidfd of our process
        self.reap()

    def watch(self, on_end: Callable[[], None]) -> None:
        """Call `on_end` once, in the event loop, when the process has ended."""
        loop = asyncio.get_running_loop()
        if self.returncode is not None:
            loop.call_soon(on_end)
        elif self._descriptor is not None:
            self._loop = loop
            loop.add_reader(self._descriptor, self._noticed, on_end)
        else:
            self._timer = loop.call_later(_POLL_SECONDS, self._look, on_end)

    def _noticed(self, on_end: Callable[[], None]) -> None:
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        on_end()

    def _look(self, on_end: Callable[[], None]) -> None:
        try:
            there = self._is_there()
        except OSError:
            there = True  # unknown: look again
        if there:
            self.watch(on_end)
        else:
            on_end()

    def _is_there(self) -> bool:
        if self._descriptor is not None and _readable(self._descriptor):
            return False
        found = stat_of(self.pid)
        return found is not None and found.started == self.start_time and not found.ended

    def signal(self, signum: int) -> bool:
        """Signal the whole process group; False when the kernel has ended already."""
        if self.returncode is not None:
            return False
        try:
            there = self._is_there()
        except OSError:
            there = self._descriptor is not None  # a pidfd never means another process
        if not there:
            return False
        try:
            if not self._signal_by_descriptor(signum):
                os.killpg(self.pid, signum)
        except ProcessLookupError:
            return False
        return True

    def reap(self) -> Optional[int]:
        """The exit code once the process has ended, None before. Kills processes it left behind.

        Also None while the system cannot tell; callers call it again.
        """
        if self.returncode is not None:
            return self.returncode
        try:
            if self._is_there():
                return None
            status = self._status()
            self._end_group()
        except OSError:
            return None
        if status is None:
            self.returncode, self._note = UNKNOWN_EXIT_CODE, _UNKNOWN
        else:
            self.returncode = exit_code_of(status)
        self._close()
        return self.returncode

    def _end_group(self) -> None:
        """Kill processes that the kernel left behind. Raises OSError when they cannot be told."""
        try:
            if self._signal_by_descriptor(signal.SIGKILL):
                return
            found = stat_of(self.pid)
            # A zombie still holds its pid.
            held = found is not None and found.started == self.start_time
            if held or left_behind(self.pid, self._directory, self._kernel_id):
                os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def _signal_by_descriptor(self, signum: int) -> bool:
        """Signal the process's group by its pidfd, also when the process has ended.

        Returns False where the system cannot do that. Raises OSError.
        """
        send: Any = getattr(signal, "pidfd_send_signal", None)
        if self._descriptor is None or send is None:
            return False
        try:
            send(self._descriptor, signum, None, _SIGNAL_GROUP)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise
        return True

    def _status(self) -> Optional[int]:
        """The status that wait() would give its parent; None if the system has not kept it."""
        found = stat_of(self.pid)
        if found is not None and found.started == self.start_time and found.ended:
            return found.status
        return _exit_status(self._descriptor) if self._descriptor is not None else None

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._descriptor is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def tail(self) -> str:
        """The last lines that the kernel printed, and a note when its exit code is unknown."""
        return "\n".join(filter(None, [super().tail(), self._note]))


def recorded_process(found: Mapping[str, Any], directory: str) -> KernelProcess:
    """The process of a kernel's record. Raises OSError when it cannot be examined at the moment."""
    if found["exit_code"] is not None:
        process = KernelProcess(found["pid"], os.path.join(directory, OUTPUT))
        process.returncode = found["exit_code"]
        return process
    gone = "" if found["boot_id"] == boot_id() else "the host was rebooted"
    return ForeignProcess(found["pid"], found["start_time"], directory, found["kernel_id"], gone)


def _pidfd(pid: int) -> Optional[int]:
    try:
        descriptor: int = os.pidfd_open(pid)  # type: ignore[attr-defined, unused-ignore]
    except (AttributeError, OSError):
        return None  # Python 3.8, an old Linux, no Linux, or no such process
    return descriptor


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _exit_status(descriptor: int) -> Optional[int]:
    """The status of a process that somebody else has reaped; None if the system lacks it."""
    info = bytearray(_INFO_SIZE)
    struct.pack_into("=Q", info, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(descriptor, _GET_INFO, info, True)
    except OSError:
        return None
    if not struct.unpack_from("=Q", info)[0] & _INFO_EXIT:
        return None
    (status,) = struct.unpack_from("=i", info, _INFO_EXIT_CODE)
    return int(status)
