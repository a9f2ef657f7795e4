"""GPUs: one kernel at a time has a device, among all users; it is free when the kernel has ended.

An agent takes a device by flock on a file that all users of this host share. The kernel inherits
the descriptor: however the kernel or the agent ends, the operating system then frees the device.
The files stay: if one were removed while another agent has it open, there would be two files,
each with a lock of its own. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import random
import re
import time
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

VARIABLE = "CUDA_VISIBLE_DEVICES"

_LOCK_FILE = re.compile(r"remote-provisioners-gpu-(.+)\.lock")
#: Another agent may hold a lock for a moment, to see which devices are taken.
_PATIENCE_SECONDS = 0.03
#: For a restart: the killed processes of the earlier start may take a moment to end.
_RESTART_PATIENCE_SECONDS = 0.5


class NoDevicesError(Exception):
    """Fewer devices are free than wanted; the message says how many."""


class Held:
    """Devices that a kernel has. `names` stay after :meth:`close`: a restart asks for the same."""

    def __init__(self, names: Sequence[str] = (), descriptors: Sequence[int] = ()) -> None:
        self.names = list(names)
        self.descriptors = list(descriptors)

    def close(self) -> None:
        """Close our descriptors: the devices are free once the kernel has ended too."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = []


async def take(temporary: str, gpus: Mapping[str, Any], again: Sequence[str] = ()) -> Held:
    """Take ``gpus["count"]`` of ``gpus["devices"]``, preferably those of `again`.

    A kernel that starts calls this, passes the descriptors to its process, and closes its own at
    the end. Raises NoDevicesError, OSError; nothing is held then.
    """
    count, devices = int(gpus.get("count") or 0), list(dict.fromkeys(gpus.get("devices") or ()))
    if count <= 0:
        return Held()
    same = [device for device in devices if device in again][:count]
    deadline = time.monotonic() + (_RESTART_PATIENCE_SECONDS if same else _PATIENCE_SECONDS)
    while True:
        try:
            held = _take_now(temporary, devices, count, same)
            if time.monotonic() > deadline or set(same) <= set(held.names):
                return held
            held.close()
        except NoDevicesError:
            if count > len(devices) or time.monotonic() > deadline:
                raise
        await asyncio.sleep(random.uniform(0.002, 0.01))  # noqa: S311


def _take_now(temporary: str, devices: List[str], count: int, first: Sequence[str]) -> Held:
    found: Dict[str, int] = {}
    try:
        for device in sorted(devices, key=lambda device: device not in first):
            if len(found) < count:
                descriptor = _locked(lock_path(temporary, device))
                if descriptor is not None:
                    found[device] = descriptor
        if len(found) < count:
            text = "{} GPU{} wanted, {} of {} free".format(
                count, "" if count == 1 else "s", len(found), len(devices)
            )
            raise NoDevicesError(text + _held(temporary, set(devices) - set(found)))
    except BaseException:
        Held((), list(found.values())).close()
        raise
    names = [device for device in devices if device in found]
    return Held(names, [found[name] for name in names])


def _held(temporary: str, devices: Iterable[str]) -> str:
    """A text about which processes (agents) have locked these devices, as far as is known."""
    try:
        with open("/proc/locks") as file:
            locks = [line.split() for line in file]
    except OSError:
        return ""
    pids = {words[5].rpartition(":")[2]: words[4] for words in locks if words[1] == "FLOCK"}
    said = []
    for device in sorted(devices):
        try:
            pid = pids[str(os.stat(lock_path(temporary, device)).st_ino)]
            uid = os.stat("/proc/" + pid).st_uid
        except (OSError, KeyError):
            continue  # its agent has ended, and the kernel holds the lock
        said.append("{} by pid {} of uid {}".format(device, pid, uid))
    return "; held: " + ", ".join(said) if said else ""


def variables(gpus: Mapping[str, Any], held: Held, spec_env: Mapping[str, str]) -> Dict[str, str]:
    """The variable that names a kernel's devices: empty if it has none of those handed out here."""
    if held.names:
        return {VARIABLE: ",".join(held.names)}
    if gpus.get("devices") and VARIABLE not in spec_env:
        return {VARIABLE: ""}
    return {}


def taken(temporary: str, names: Iterable[str]) -> List[str]:
    """The devices that kernels have; `names` are the names of the files in `temporary`."""
    found = []
    for name in names:
        match = _LOCK_FILE.fullmatch(name)
        if match is not None and not _is_free(os.path.join(temporary, name)):
            from urllib.parse import unquote  # noqa: PLC0415 (most agents never need it)

            found.append(unquote(match.group(1)))
    return sorted(found)


def lock_path(temporary: str, device: str) -> str:
    """The lock file of a device with a name such as ``0`` or ``GPU-8a56…``, or any other."""
    from urllib.parse import quote  # noqa: PLC0415 (most agents never need it)

    safe = quote(device, safe="", errors="surrogateescape")
    return os.path.join(temporary, "remote-provisioners-gpu-{}.lock".format(safe))


def _is_free(path: str) -> bool:
    try:
        descriptor = _opened(path)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _locked(path: str) -> Optional[int]:
    """Lock the file, which is made if needed. Returns a descriptor, or None if it is locked.

    Raises OSError when the file cannot be made.
    """
    while True:
        try:
            descriptor = _opened(path)
        except FileNotFoundError:
            _make(path)
            continue
        except OSError as error:
            if error.errno in (errno.EACCES, errno.ELOOP):
                return None  # no agent has made this file
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass  # a program that cleans up old files removed it meanwhile
        os.close(descriptor)


def _opened(path: str) -> int:
    """Open a file that may be another user's. Without O_CREAT: /tmp refuses that for such files."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _make(path: str) -> None:
    before = os.umask(0)  # every user must be able to open it
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o444))
    except FileExistsError:
        pass
    finally:
        os.umask(before)
