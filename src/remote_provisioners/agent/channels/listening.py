"""Noticing that a kernel listens, without connecting to its sockets.

Some kernels end when somebody connects and says nothing. So we ask the system: by netlink
(sock_diag(7)), else by /proc/net. Only where neither can tell, we connect and speak ZMTP.
Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
from functools import partial
from typing import Any, Dict, Iterator, Optional, Sequence

from ...protocol import zmtp
from .. import apart
from .endpoints import Endpoint, forms_of, ready_endpoints

_IN_CREATE = 0x100
_POLL_SECONDS = 0.01
#: The interval at which ZeroMQ tries to connect again.
_LONGEST_POLL_SECONDS = 0.1
#: When the system does not list a socket file after this time, it belongs to another namespace.
_UNSEEN_SECONDS = 1.0
_GREETING_SECONDS = 2.0

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _NLMSG_DONE, _NLMSG_ERROR = 20, 3, 2
_REQUEST_DUMP = 0x301
_LISTEN = 10  # TCP_LISTEN, for unix sockets as well
_SHOW_NAME = 1
_HEADER = struct.Struct("=IHHII")
#: A listener at one of these accepts a connection to 127.0.0.1; IPv6 ones may do so as well.
_ADDRESSES = {
    socket.AF_INET: (bytes(4), bytes((127, 0, 0, 1))),
    socket.AF_INET6: (
        bytes(16),
        bytes(10) + b"\xff\xff" + bytes(4),
        bytes(10) + b"\xff\xff\x7f\0\0\1",
    ),
}


async def until_kernel_listens(connection: Dict[str, Any]) -> Dict[str, Any]:
    """Wait until a kernel listens. Returns its connection in the form that the kernel uses.

    Cancel it when the kernel has exited.
    """
    forms = forms_of(connection)
    return forms[await _until_one_listens([ready_endpoints(form) for form in forms])]


async def until_all_listen(endpoints: Sequence[Endpoint]) -> None:
    """Return once each endpoint listens."""
    await _until_one_listens([endpoints])


async def _until_one_listens(choices: Sequence[Sequence[Endpoint]]) -> int:
    """Wait until all endpoints of one of `choices` listen. Returns the number of this choice."""
    paths = [[endpoint for endpoint in each if isinstance(endpoint, str)] for each in choices]
    number = await _until_all_exist(paths) if any(paths) else 0
    for endpoint in choices[number]:
        # A socket file exists a moment before its owner listens; a port has no file to watch.
        is_path = isinstance(endpoint, str)
        await until_listens(endpoint, 0.001 if is_path else _POLL_SECONDS, _POLL_SECONDS)
    return number


async def until_listens(
    endpoint: Endpoint, delay: float = _POLL_SECONDS, longest: float = _LONGEST_POLL_SECONDS
) -> None:
    """Return once `endpoint` listens. Looks again after `delay` seconds, then less often."""
    loop = asyncio.get_running_loop()
    seen_since: Optional[float] = None
    while not (found := is_listening(endpoint)):
        if isinstance(endpoint, str) and await _exists(endpoint):
            seen_since = seen_since or loop.time()
        unseen = seen_since is not None and loop.time() - seen_since > _UNSEEN_SECONDS
        if (found is None or unseen) and await _greets(endpoint):
            return
        await asyncio.sleep(delay)
        delay = min(longest, 1.5 * delay)


def is_listening(endpoint: Endpoint) -> Optional[bool]:
    """Whether somebody listens there; None where the system does not say."""
    for ask in (by_netlink, by_proc):
        try:
            return ask(endpoint)
        except (OSError, ValueError, struct.error):
            continue
    return None


# -- netlink ---------------------------------------------------------------------------------


def by_netlink(endpoint: Endpoint) -> bool:
    """Whether somebody listens there, by sock_diag. Raises OSError."""
    if isinstance(endpoint, str):
        name = os.fsencode(endpoint)
        return any(found == name for found in _unix_names())
    return any(
        address in _ADDRESSES[family]
        for family in (socket.AF_INET, socket.AF_INET6)
        for address in _tcp_addresses(family, endpoint)
    )


def _unix_names() -> Iterator[bytes]:
    """The paths of unix sockets that listen."""
    request = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 1 << _LISTEN, 0, _SHOW_NAME, 0, 0)
    for body in _dump(request):
        position = 16
        while position + 4 <= len(body):
            length, kind = struct.unpack_from("=HH", body, position)
            if length < 4:
                break
            if kind == 0:  # UNIX_DIAG_NAME
                yield body[position + 4 : position + length].rstrip(b"\0")
            position += (length + 3) & ~3


def _tcp_addresses(family: int, port: int) -> Iterator[bytes]:
    """The addresses where somebody listens on this port."""
    request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 1 << _LISTEN)
    request += struct.pack(">H", port) + bytes(46)
    size = 4 if family == socket.AF_INET else 16
    for body in _dump(request):
        (found,) = struct.unpack_from(">H", body, 4)
        if found == port:
            yield body[8 : 8 + size]


def _dump(request: bytes) -> Iterator[bytes]:
    """The answers to a request of sock_diag. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as diag:
        diag.settimeout(1)
        header = (_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
        diag.send(_HEADER.pack(*header) + request)
        while True:
            data, position = diag.recv(65536), 0
            while position + _HEADER.size <= len(data):
                length, kind, _, _, _ = _HEADER.unpack_from(data, position)
                body = data[position + _HEADER.size : position + length]
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    (number,) = struct.unpack_from("=i", body)
                    raise OSError(-number, os.strerror(-number))
                yield body
                position += max(_HEADER.size, (length + 3) & ~3)


# -- /proc/net -------------------------------------------------------------------------------


def by_proc(endpoint: Endpoint) -> bool:
    """Whether somebody listens there, by /proc/net. Raises OSError, ValueError."""
    if isinstance(endpoint, str):
        return _unix_by_proc(os.fsencode(endpoint))
    for family, path in ((socket.AF_INET, "/proc/net/tcp"), (socket.AF_INET6, "/proc/net/tcp6")):
        try:
            with open(path) as table:
                next(table)
                for words in map(str.split, table):
                    address, _, port = words[1].partition(":")
                    here = _in_network_order(address) in _ADDRESSES[family]
                    if here and int(port, 16) == endpoint and int(words[3], 16) == _LISTEN:
                        return True
        except FileNotFoundError:
            if family == socket.AF_INET:
                raise
    return False


def _unix_by_proc(name: bytes) -> bool:
    with open("/proc/net/unix", "rb") as table:
        next(table)
        for line in table:
            words = line.rstrip(b"\n").split(None, 7)
            # __SO_ACCEPTCON is set in the flags of a socket that listens.
            if len(words) == 8 and words[7] == name and int(words[3], 16) & 0x10000:
                return True
    return False


def _in_network_order(address: str) -> bytes:
    """An address from /proc/net: words of 32 bits in this machine's byte order."""
    raw = bytes.fromhex(address)
    words = struct.unpack(">{}I".format(len(raw) // 4), raw)
    return struct.pack("={}I".format(len(words)), *words)


# -- a connection that speaks ZMTP -------------------------------------------------------------


async def _greets(endpoint: Endpoint) -> bool:
    """Whether a ZMTP peer answers there. We send our greeting first, then close the connection."""
    greeted = asyncio.ensure_future(_greeted(endpoint))
    try:
        await asyncio.wait([greeted], timeout=_GREETING_SECONDS)  # not wait_for: see apart.py
        return greeted.done() and greeted.exception() is None and greeted.result()
    finally:
        greeted.cancel()


async def _greeted(endpoint: Endpoint) -> bool:
    if isinstance(endpoint, str):
        reader, writer = await asyncio.open_unix_connection(endpoint)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint)
    try:
        writer.write(zmtp.GREETING)
        return await reader.readexactly(1) == b"\xff"
    finally:
        writer.close()


# -- files of sockets --------------------------------------------------------------------------


async def _until_all_exist(choices: Sequence[Sequence[str]]) -> int:
    """Wait until all files of one of `choices` exist. Returns the number of this choice."""
    directories = sorted({os.path.dirname(path) for paths in choices for path in paths})
    what = ", ".join(directories)
    try:
        watch = await apart.run(what, lambda: _watch(directories), late=_close)
    except OSError:  # the file system hangs
        watch = None
    try:
        while True:
            try:
                number = await _complete(choices)
            except OSError:  # look again, also without an event: perhaps this was the last one
                await asyncio.sleep(_POLL_SECONDS)
                continue
            if number is not None:
                return number
            if watch is None:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                await _readable(watch)
                os.read(watch, 65536)
    finally:
        _close(watch)


async def _complete(choices: Sequence[Sequence[str]]) -> Optional[int]:
    """The number of the first of `choices` whose files all exist. Raises OSError when the file
    system hangs.
    """

    def look() -> Optional[int]:
        for number, paths in enumerate(choices):
            if all(os.path.exists(path) for path in paths):
                return number
        return None

    return await apart.run(choices[0][0], look)


async def _exists(path: str) -> bool:
    try:
        return await _complete([[path]]) is not None
    except OSError:
        return False


def _close(watch: Optional[int]) -> None:
    """Close a watch in a thread. The system waits for all users of watches, which takes 10 ms."""
    if watch is not None:
        apart.begin(partial(os.close, watch), _nobody_waits)


def _nobody_waits(result: None, error: Optional[BaseException]) -> None:
    """Ignore the result."""


def _watch(directories: Sequence[str]) -> Optional[int]:
    """An inotify descriptor that becomes readable when a file is created in the directories."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor: int = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, AttributeError):
        return None  # not Linux: poll
    if descriptor < 0:
        return None
    for directory in directories:
        if libc.inotify_add_watch(descriptor, os.fsencode(directory), _IN_CREATE) < 0:
            os.close(descriptor)
            return None
    return descriptor


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
