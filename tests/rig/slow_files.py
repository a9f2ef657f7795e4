"""A file system in memory whose every answer is late, or never comes: ``slow_files.py DIRECTORY``.

Speaks FUSE's protocol with /dev/fuse itself (linux/fuse.h), so no library is needed. It reads from
stdin how late its answers are from then on, in seconds; "never" is as on a dead NFS server. When
it is killed, what waits for an answer gets an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

(LOOKUP, FORGET, GETATTR, SETATTR, MKDIR, UNLINK, RMDIR, RENAME) = (1, 2, 3, 4, 9, 10, 11, 12)
(OPEN, READ, WRITE, STATFS, RELEASE, FLUSH, INIT, OPENDIR) = (14, 15, 16, 17, 18, 25, 26, 27)
(READDIR, RELEASEDIR, ACCESS, CREATE, INTERRUPT, BATCH_FORGET, RENAME2) = (
    28,
    29,
    34,
    35,
    36,
    42,
    45,
)
_MNT_DETACH = 2
_BIG_WRITES = 1 << 5
_HEADER = struct.Struct("=IIQQIIII")
_ANSWER = struct.Struct("=IiQ")


class Node:
    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.data = bytearray()
        self.names: dict[bytes, int] = {}


class Files:
    """Answers requests. Nodes are never forgotten."""

    def __init__(self) -> None:
        self.nodes = {1: Node(stat.S_IFDIR | 0o777)}

    def answer(self, code: int, number: int, body: bytes) -> bytes:
        """Raises OSError, KeyError."""
        if code == INIT:
            return struct.pack("=IIIIHHII", 7, 31, 1 << 17, _BIG_WRITES, 12, 9, 1 << 17, 1) + bytes(
                36
            )
        node = self.nodes[number]
        if code == LOOKUP:
            return self._entry(node.names[_name(body)])
        if code == GETATTR:
            return struct.pack("=QII", 0, 0, 0) + self._attributes(number)
        if code == SETATTR:
            valid, _, _, size = struct.unpack_from("=IIQQ", body)
            if valid & 8:
                del node.data[size:]
                node.data.extend(bytes(size - len(node.data)))
            if valid & 1:
                (mode,) = struct.unpack_from("=I", body, 68)
                node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
            return struct.pack("=QII", 0, 0, 0) + self._attributes(number)
        if code == MKDIR:
            (mode,) = struct.unpack_from("=I", body)
            return self._entry(self._make(node, _name(body[8:]), stat.S_IFDIR | mode & 0o777))
        if code == CREATE:
            _, mode = struct.unpack_from("=II", body)
            made = self._make(node, _name(body[16:]), stat.S_IFREG | mode & 0o777)
            return self._entry(made) + bytes(16)
        if code in (UNLINK, RMDIR):
            if self.nodes[node.names[_name(body)]].names:
                raise OSError(errno.ENOTEMPTY, "")
            del node.names[_name(body)]
        elif code in (RENAME, RENAME2):
            (there,) = struct.unpack_from("=Q", body)
            before, after = body[8 if code == RENAME else 16 :].split(b"\0")[:2]
            self.nodes[there].names[after] = node.names.pop(before)
        elif code in (OPEN, OPENDIR):
            return bytes(16)
        elif code == READ:
            _, offset, size = struct.unpack_from("=QQI", body)
            return bytes(node.data[offset : offset + size])
        elif code == WRITE:
            _, offset, size = struct.unpack_from("=QQI", body)
            node.data.extend(bytes(max(0, offset - len(node.data))))
            node.data[offset : offset + size] = body[40 : 40 + size]
            return struct.pack("=II", size, 0)
        elif code == READDIR:
            _, offset = struct.unpack_from("=QQ", body)
            entries = list(enumerate(node.names.items(), 1))[offset:]
            return b"".join(self._in_list(at, *entry) for at, entry in entries[:20])
        elif code == STATFS:
            return struct.pack(
                "=QQQQQIIII", 1 << 20, 1 << 19, 1 << 19, 0, 0, 4096, 255, 4096, 0
            ) + bytes(24)
        elif code not in (RELEASE, RELEASEDIR, FLUSH, ACCESS):
            raise OSError(errno.ENOSYS, "")
        return b""

    def _make(self, parent: Node, name: bytes, mode: int) -> int:
        number = len(self.nodes) + 1
        self.nodes[number] = Node(mode)
        parent.names[name] = number
        return number

    def _attributes(self, number: int) -> bytes:
        node = self.nodes[number]
        times = struct.pack("=QQQIII", 0, 0, 0, 0, 0, 0)
        size = len(node.data)
        owner = (os.getuid(), os.getgid())
        more = struct.pack("=IIIIIII", node.mode, 1, *owner, 0, 4096, 0)
        return struct.pack("=QQQ", number, size, size // 512 + 1) + times + more

    def _entry(self, number: int) -> bytes:
        return struct.pack("=QQQQII", number, 0, 0, 0, 0, 0) + self._attributes(number)

    def _in_list(self, at: int, name: bytes, number: int) -> bytes:
        kind = self.nodes[number].mode >> 12
        entry = struct.pack("=QQII", number, at, len(name), kind) + name
        return entry + bytes(-len(entry) % 8)


def _name(body: bytes) -> bytes:
    return body.partition(b"\0")[0]


def serve(directory: str) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    if libc.mount(b"slow", os.fsencode(directory), b"fuse", 0, options.encode()) != 0:
        sys.exit(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    files, late, waiting = Files(), "0", []
    print("mounted", flush=True)
    while True:
        ready, _, _ = select.select([device, 0], [], [])
        if 0 in ready:
            late = os.read(0, 100).decode().strip() or late
            if late != "never":
                for request in waiting:
                    answer(device, files, request)
                waiting.clear()
        if device in ready:
            request = os.read(device, 1 << 20)
            code = _HEADER.unpack_from(request)[1]
            if code in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            if late == "never":
                waiting.append(request)
                continue
            time.sleep(0 if code == INIT else float(late))
            answer(device, files, request)


def answer(device: int, files: Files, request: bytes) -> None:
    _, code, unique, number, *_ = _HEADER.unpack_from(request)
    error, body = 0, b""
    try:
        body = files.answer(code, number, request[_HEADER.size :])
    except OSError as problem:
        error = -(problem.errno or errno.EIO)
    except KeyError:
        error = -errno.ENOENT
    with contextlib.suppress(FileNotFoundError):  # who asked has been interrupted
        os.write(device, _ANSWER.pack(_ANSWER.size + len(body), error, unique) + body)


class SlowFiles:
    """The file system at `directory`, served by a process of its own."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError when it cannot be mounted."""
        self.directory = directory
        directory.mkdir()
        argv = [sys.executable, __file__, str(directory)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self._process = subprocess.Popen(argv, text=True, **pipes)  # type: ignore[call-overload]
        said = self._process.stdout.readline().strip()
        if said != "mounted":
            self._process.communicate()
            raise OSError(said)

    def late(self, seconds: float | None) -> None:
        """Answer `seconds` late from now on; None: never."""
        self._process.stdin.write("never\n" if seconds is None else f"{seconds}\n")
        self._process.stdin.flush()
        time.sleep(0.05)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        ctypes.CDLL(None).umount2(os.fsencode(self.directory), _MNT_DETACH)


if __name__ == "__main__":
    serve(sys.argv[1])
