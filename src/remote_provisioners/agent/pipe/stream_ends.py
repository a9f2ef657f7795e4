"""The ends of a pipe's streams on the host: sockets and programs.

Sent with host_end.py; standard library only. Each end passes what it reads to the Multiplexer, and
writes what the server sends as its descriptor has room.
"""

from __future__ import annotations

import errno
import os
import socket
import time

from ...protocol.multiplex import ACCEPTED, DATA, END, ERRORS, EXIT, READY, REFUSED
from .descriptors import READ, WRITE, Descriptors, Writer, nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Optional, Set, Tuple, Union

    from ...protocol.multiplex import Multiplexer

READ_BYTES = 256 * 1024
#: How long we try to connect to a socket whose queue of connections is full.
_CONNECT_SECONDS = 5.0
# SIGPIPE and SIGXFSZ: Python ignores them, and a program would inherit that.
_DEFAULT_SIGNALS = (13, 25)


class End:
    """The host's end of a stream. This base class does nothing."""

    def receive(self, data: bytes) -> None:
        """The server has sent `data`."""

    def finish(self) -> None:
        """The server will send no more."""

    def close(self) -> None:
        """The server does not need the stream any more."""

    def resume(self) -> None:
        """All that this end gave to the pipe has been sent: it may read again."""


class SocketEnd(End):
    """A stream's socket."""

    def __init__(self, pipe: Pipe, stream: int, connection: socket.socket) -> None:
        self._pipe, self.stream, self._socket = pipe, stream, connection
        self._writer = Writer(connection.fileno(), self._written)
        self._reads, self._finishes, self._closes = True, False, False
        self._watch()

    def _watch(self) -> None:
        interest = (READ if self._reads else 0) | (WRITE if self._writer.waiting else 0)
        self._pipe.descriptors.watch(self._writer.descriptor, interest, self._ready)

    def _ready(self, ready: int) -> None:
        try:
            if ready & WRITE:
                self._write()
            if ready & READ and self._reads:
                self._read()
        except OSError:
            self.abort()

    def _read(self) -> None:
        try:
            data = os.read(self._writer.descriptor, READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._reads = self._pipe.streams.send(self.stream, DATA, data)
        else:
            self._reads = False
            self._pipe.streams.send(self.stream, END)
            self._pipe.at_end.add(self.stream)
        if not self._reads:
            self._watch()

    def resume(self) -> None:
        if self.stream not in self._pipe.at_end and not self._closes:
            self._reads = True
            self._watch()

    def receive(self, data: bytes) -> None:
        self._writer.waiting.append(data)
        if len(self._writer.waiting) == 1:
            self._ready(WRITE)

    def _write(self) -> None:
        self._writer.write()
        if not self._writer.waiting:
            if self._closes:
                self.abort()
                return
            if self._finishes:
                self._finishes = False
                self._socket.shutdown(socket.SHUT_WR)
        self._watch()

    def _written(self, size: int) -> None:
        self._pipe.streams.used(self.stream, size)

    def finish(self) -> None:
        self._finishes = True
        self._ready(WRITE)

    def close(self) -> None:
        """Close once all that the server has sent is written."""
        self._closes, self._reads = True, False
        self._ready(WRITE)

    def abort(self) -> None:
        """The socket is gone."""
        if self._pipe.ends.pop(self.stream, None) is not None:
            self._pipe.at_end.discard(self.stream)
            self._pipe.descriptors.watch(self._writer.descriptor, 0, nothing)
            self._socket.close()
            self._pipe.streams.drop(self.stream)


class ProgramEnd(End):
    """A stream's program."""

    def __init__(self, pipe: Pipe, stream: int, argv: List[str]) -> None:
        """Raises OSError, ValueError."""
        self._pipe, self.stream = pipe, stream
        theirs: List[int] = []
        ours: List[int] = []
        try:
            for _ in range(3):
                read_end, write_end = os.pipe()
                theirs.append(write_end if theirs else read_end)
                ours.append(read_end if len(theirs) > 1 else write_end)
            actions = [(os.POSIX_SPAWN_DUP2, there, to) for to, there in enumerate(theirs)]
            self.pid = os.posix_spawnp(
                argv[0], argv, os.environ, file_actions=actions, setsigdef=_DEFAULT_SIGNALS
            )
        except BaseException:
            for descriptor in ours:
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        for descriptor in ours:
            os.set_blocking(descriptor, False)
        self._writer: Optional[Writer] = Writer(ours[0], self._written)
        self._outputs = {ours[1]: DATA, ours[2]: ERRORS}
        self._reads, self._finishes = True, False
        self._watch()

    def _watch(self) -> None:
        if self._writer is not None:
            interest = WRITE if self._writer.waiting else 0
            self._pipe.descriptors.watch(self._writer.descriptor, interest, self._write)
        for descriptor in self._outputs:
            interest = READ if self._reads else 0
            self._pipe.descriptors.watch(descriptor, interest, self._reader(descriptor))

    def _reader(self, descriptor: int) -> Callable[[int], None]:
        return lambda ready: self._read(descriptor)

    def _read(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._reads = self._pipe.streams.send(self.stream, self._outputs[descriptor], data)
            if not self._reads:
                self._watch()
            return
        del self._outputs[descriptor]
        self._pipe.descriptors.close(descriptor)
        if not self._outputs:
            self._pipe.ending.append(self)

    def resume(self) -> None:
        self._reads = True
        self._watch()

    def receive(self, data: bytes) -> None:
        if self._writer is not None:
            self._writer.waiting.append(data)
            self._write(WRITE)

    def _written(self, size: int) -> None:
        self._pipe.streams.used(self.stream, size)

    def _write(self, ready: int) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write()
        except OSError:  # the program reads no more, which is no fault
            self._writer.waiting.clear()
        if self._finishes and not self._writer.waiting:
            self._pipe.descriptors.close(self._writer.descriptor)
            self._writer = None
        self._watch()

    def finish(self) -> None:
        self._finishes = True
        self._write(WRITE)

    def close(self) -> None:
        """Close its stdin and outputs. The program may go on."""
        for descriptor in self._outputs:
            self._pipe.descriptors.close(descriptor)
        if self._outputs:
            self._pipe.ending.append(self)
        self._outputs = {}
        self.finish()

    def ended(self) -> bool:
        """Whether the program has ended. If so, send its exit code to the server."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return False
        # Negative for a signal, as subprocess reports it.
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if self._writer is not None:
            self._pipe.descriptors.close(self._writer.descriptor)
            self._writer = None
        self._pipe.streams.send(self.stream, EXIT, b"%d" % code)
        self._pipe.ends.pop(self.stream, None)
        return True


class ListeningEnd(End):
    """A socket here whose connections go to the server."""

    def __init__(self, pipe: Pipe, stream: int, path: str) -> None:
        """Raises OSError."""
        self._pipe, self.stream, self._path = pipe, stream, path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            self._socket.bind(path)
        except OSError:
            self._socket.close()
            raise
        finally:
            os.umask(before)
        self._socket.listen(128)
        self._socket.setblocking(False)
        pipe.descriptors.watch(self._socket.fileno(), READ, self._accept)

    def _accept(self, ready: int) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        connection.setblocking(False)
        self._pipe.accepted(self.stream, connection)

    def close(self) -> None:
        self._pipe.descriptors.watch(self._socket.fileno(), 0, nothing)
        self._socket.close()
        self._pipe.ends.pop(self.stream, None)
        self._pipe.streams.forget(self.stream)
        try:
            os.unlink(self._path)
        except OSError:
            pass


class ConnectingEnd(End):
    """A connection that is being made."""

    def __init__(self, pipe: Pipe, stream: int, endpoint: str) -> None:
        self._pipe, self.stream = pipe, stream
        self._address: Union[str, Tuple[str, int]] = endpoint
        family = socket.AF_UNIX
        if not endpoint.startswith("/"):
            self._address, family = ("127.0.0.1", int(endpoint)), socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._until = time.monotonic() + _CONNECT_SECONDS
        self.attempt()

    def attempt(self) -> bool:
        """Connect. Returns False when the socket's queue is full: then attempt it again."""
        code = self._socket.connect_ex(self._address)
        if code == errno.EINPROGRESS:
            self._pipe.descriptors.watch(self._socket.fileno(), WRITE, self._known)
        elif code == errno.EAGAIN and time.monotonic() < self._until:
            if self not in self._pipe.again:
                self._pipe.again.append(self)
            return False
        else:
            self._decide(code)
        return True

    def _known(self, ready: int) -> None:
        self._pipe.descriptors.watch(self._socket.fileno(), 0, nothing)
        self._decide(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _decide(self, code: int) -> None:
        if code:
            self._socket.close()
            self._pipe.refuse(self.stream, os.strerror(code))
        else:
            self._pipe.streams.say(READY, self.stream)
            self._pipe.ends[self.stream] = SocketEnd(self._pipe, self.stream, self._socket)

    def close(self) -> None:
        self._until = 0.0
        self._pipe.descriptors.watch(self._socket.fileno(), 0, nothing)
        self._socket.close()
        if self in self._pipe.again:
            self._pipe.again.remove(self)
        self._pipe.ends.pop(self.stream, None)
        self._pipe.streams.forget(self.stream)


class Pipe:
    """The part of a pipe that its ends use."""

    def __init__(self, streams: Multiplexer) -> None:
        self.descriptors = Descriptors()
        self.streams = streams
        self.ends: Dict[int, End] = {}
        #: Streams whose socket has been read to the end.
        self.at_end: Set[int] = set()
        #: Programs that have closed their output.
        self.ending: List[ProgramEnd] = []
        #: Connections to sockets whose queue is full.
        self.again: List[ConnectingEnd] = []
        self._accepted = 0

    def refuse(self, stream: int, why: str) -> None:
        """Tell the server that the stream could not be opened, and why."""
        self.ends.pop(stream, None)
        self.streams.forget(stream)
        self.streams.say(REFUSED, stream, why.encode())

    def accepted(self, listening: int, connection: socket.socket) -> None:
        """Somebody has connected to the socket of a ListeningEnd."""
        self._accepted += 2
        stream = self._accepted
        self.streams.begin(stream)
        self.streams.say(ACCEPTED, stream, b"%d" % listening)
        self.ends[stream] = SocketEnd(self, stream, connection)
