"""The host's end of a pipe: joins the streams of stdin and stdout to sockets and programs here.

Sent as text over the pipe and run by the interpreter that waits there
(hosts/transport/pipe_start.py). It lives as long as the pipe and keeps nothing: the agent and the
kernels do not depend on it. Standard library only; what takes long to import is not imported, for
this runs before everything else. It is no module of the agent's archive.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import sys
import time
from collections import deque

from ..protocol.multiplex import (
    ACCEPTED,
    CLOSE,
    DATA,
    END,
    ERRORS,
    EXIT,
    LISTEN,
    OPEN,
    READY,
    REFUSED,
    RUN,
    Multiplexer,
    PipeError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque, Dict, List, Optional, Set, Tuple, Union

_READ_BYTES = 256 * 1024
#: The server says something every few seconds. One that is silent for this long is gone.
SILENT_SECONDS = 60.0
#: How often we look whether a program has ended, once it has closed its output.
_ENDED_SECONDS = 0.005
#: For a socket whose queue of connections is full.
_CONNECT_SECONDS = 5.0
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
# Python ignores SIGPIPE and SIGXFSZ, which a program would inherit.
_DEFAULT_SIGNALS = (13, 25)


class Descriptors:
    """What we wait for: each descriptor calls back with what it is ready for."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._interests: Dict[int, int] = {}

    def watch(self, descriptor: int, interest: int, call: Callable[[int], None]) -> None:
        """Wait for `interest`, 0 for nothing."""
        before = self._interests.get(descriptor, 0)
        if interest == before:
            return
        if not interest:
            self._selector.unregister(descriptor)
            del self._interests[descriptor]
            return
        if before:
            self._selector.modify(descriptor, interest, call)
        else:
            self._selector.register(descriptor, interest, call)
        self._interests[descriptor] = interest

    def close(self, descriptor: int) -> None:
        self.watch(descriptor, 0, _nothing)
        os.close(descriptor)

    def wait(self, seconds: float) -> None:
        """Call back for what is ready, after `seconds` at the latest."""
        for key, ready in self._selector.select(seconds):
            if self._interests.get(key.fd, 0) & ready:  # an earlier one may have closed it
                key.data(ready)


def _nothing(ready: int) -> None:
    """Not called: nothing is waited for."""


class Writer:
    """A descriptor that is written to as it has room."""

    def __init__(self, descriptor: int, on_written: Callable[[int], None]) -> None:
        self.descriptor = descriptor
        self.waiting: Deque[Any] = deque()
        self._on_written = on_written

    def write(self) -> None:
        """Write what it has room for. Raises OSError where nobody reads any more."""
        while self.waiting:
            piece = self.waiting[0]
            try:
                size = os.write(self.descriptor, piece)
            except BlockingIOError:
                return
            self._on_written(size)
            if size < len(piece):
                self.waiting[0] = memoryview(piece)[size:]
                return
            self.waiting.popleft()


class End:
    """What a stream is joined to. By itself it does nothing."""

    def receive(self, data: bytes) -> None:
        """The server sends this."""

    def finish(self) -> None:
        """The server sends no more."""

    def close(self) -> None:
        """The server is done with the stream."""

    def resume(self) -> None:
        """What this end has said has been sent, and it may go on."""


class SocketEnd(End):
    """A stream's socket."""

    def __init__(self, pipe: PipeEnd, stream: int, connection: socket.socket) -> None:
        self._pipe, self.stream, self._socket = pipe, stream, connection
        self._writer = Writer(connection.fileno(), self._written)
        self._reads, self._finishes, self._closes = True, False, False
        self._watch()

    def _watch(self) -> None:
        interest = (_READ if self._reads else 0) | (_WRITE if self._writer.waiting else 0)
        self._pipe.descriptors.watch(self._writer.descriptor, interest, self._ready)

    def _ready(self, ready: int) -> None:
        try:
            if ready & _WRITE:
                self._write()
            if ready & _READ and self._reads:
                self._read()
        except OSError:
            self.abort()

    def _read(self) -> None:
        try:
            data = os.read(self._writer.descriptor, _READ_BYTES)
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
            self._ready(_WRITE)

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
        self._ready(_WRITE)

    def close(self) -> None:
        """What the server has sent is still written."""
        self._closes, self._reads = True, False
        self._ready(_WRITE)

    def abort(self) -> None:
        """The socket is gone."""
        if self._pipe.ends.pop(self.stream, None) is not None:
            self._pipe.at_end.discard(self.stream)
            self._pipe.descriptors.watch(self._writer.descriptor, 0, _nothing)
            self._socket.close()
            self._pipe.streams.drop(self.stream)


class ProgramEnd(End):
    """A stream's program."""

    def __init__(self, pipe: PipeEnd, stream: int, argv: List[str]) -> None:
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
            interest = _WRITE if self._writer.waiting else 0
            self._pipe.descriptors.watch(self._writer.descriptor, interest, self._write)
        for descriptor in self._outputs:
            interest = _READ if self._reads else 0
            self._pipe.descriptors.watch(descriptor, interest, self._reader(descriptor))

    def _reader(self, descriptor: int) -> Callable[[int], None]:
        return lambda ready: self._read(descriptor)

    def _read(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _READ_BYTES)
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
            self._write(_WRITE)

    def _written(self, size: int) -> None:
        self._pipe.streams.used(self.stream, size)

    def _write(self, ready: int) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write()
        except OSError:  # it reads no more, which is no fault
            self._writer.waiting.clear()
        if self._finishes and not self._writer.waiting:
            self._pipe.descriptors.close(self._writer.descriptor)
            self._writer = None
        self._watch()

    def finish(self) -> None:
        self._finishes = True
        self._write(_WRITE)

    def close(self) -> None:
        """A program that goes on finds its output closed."""
        for descriptor in self._outputs:
            self._pipe.descriptors.close(descriptor)
        if self._outputs:
            self._pipe.ending.append(self)
        self._outputs = {}
        self.finish()

    def ended(self) -> bool:
        """Whether it has ended; the server is told."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return False
        # As the shells say it, and sshd by a message of its own: a signal gives no return code.
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if self._writer is not None:
            self._pipe.descriptors.close(self._writer.descriptor)
            self._writer = None
        self._pipe.streams.send(self.stream, EXIT, b"%d" % code)
        self._pipe.ends.pop(self.stream, None)
        return True


class ListeningEnd(End):
    """A socket here whose connections go to the server."""

    def __init__(self, pipe: PipeEnd, stream: int, path: str) -> None:
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
        pipe.descriptors.watch(self._socket.fileno(), _READ, self._accept)

    def _accept(self, ready: int) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        connection.setblocking(False)
        self._pipe.accepted(self.stream, connection)

    def close(self) -> None:
        self._pipe.descriptors.watch(self._socket.fileno(), 0, _nothing)
        self._socket.close()
        self._pipe.ends.pop(self.stream, None)
        self._pipe.streams.forget(self.stream)
        try:
            os.unlink(self._path)
        except OSError:
            pass


class ConnectingEnd(End):
    """A connection that is being made."""

    def __init__(self, pipe: PipeEnd, stream: int, endpoint: str) -> None:
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
        """Whether it is over, or will be known when the socket can be written to."""
        code = self._socket.connect_ex(self._address)
        if code == errno.EINPROGRESS:
            self._pipe.descriptors.watch(self._socket.fileno(), _WRITE, self._known)
        elif code == errno.EAGAIN and time.monotonic() < self._until:
            if self not in self._pipe.again:
                self._pipe.again.append(self)
            return False
        else:
            self._decide(code)
        return True

    def _known(self, ready: int) -> None:
        self._pipe.descriptors.watch(self._socket.fileno(), 0, _nothing)
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
        self._pipe.descriptors.watch(self._socket.fileno(), 0, _nothing)
        self._socket.close()
        if self in self._pipe.again:
            self._pipe.again.remove(self)
        self._pipe.ends.pop(self.stream, None)
        self._pipe.streams.forget(self.stream)


class PipeEnd:
    """Stdin and stdout, and all that is at the other end of their streams."""

    def __init__(self, read: int, write: int) -> None:
        self.descriptors = Descriptors()
        self.streams = Multiplexer()
        self.ends: Dict[int, End] = {}
        #: Streams whose socket has been read to its end.
        self.at_end: Set[int] = set()
        #: Programs that have closed their output.
        self.ending: List[ProgramEnd] = []
        #: Connections to sockets whose queue is full.
        self.again: List[ConnectingEnd] = []
        self._accepted = 0
        self._read_end = read
        self._writer = Writer(write, _nothing)
        self._open = True
        self._heard = time.monotonic()
        for descriptor in (read, write):
            os.set_blocking(descriptor, False)
        self.descriptors.watch(read, _READ, self._read)

    def serve(self, early: bytes) -> None:
        """Until the server closes the pipe, or says nothing any more."""
        try:
            self._receive(early)
            while self._open and time.monotonic() - self._heard < SILENT_SECONDS:
                self._flush(_WRITE)
                soon = self.ending or self.again
                self.descriptors.wait(_ENDED_SECONDS if soon else SILENT_SECONDS / 4)
                self.ending = [program for program in self.ending if not program.ended()]
                self.again = [waiting for waiting in self.again if not waiting.attempt()]
        except BrokenPipeError:
            pass  # nobody reads: the same end
        finally:
            for end in list(self.ends.values()):
                if isinstance(end, ListeningEnd):
                    end.close()

    def _read(self, ready: int) -> None:
        try:
            data = os.read(self._read_end, _READ_BYTES)
        except BlockingIOError:
            return
        self._open = bool(data)
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        self._heard = time.monotonic()
        for kind, stream, body in self.streams.receive(data):
            if kind in (OPEN, RUN, LISTEN):
                self._begin(kind, stream, body)
                continue
            end = self.ends.get(stream)
            if end is None:
                continue
            if kind == DATA:
                end.receive(body)
            elif kind == END:
                end.finish()
            elif kind == CLOSE:
                end.close()

    def _begin(self, kind: int, stream: int, body: bytes) -> None:
        self.streams.begin(stream)
        text = os.fsdecode(body)
        try:
            if kind == OPEN:
                connecting = ConnectingEnd(self, stream, text)
                if self.streams.knows(stream):  # else it is refused already
                    self.ends.setdefault(stream, connecting)
            elif kind == RUN:
                self.ends[stream] = ProgramEnd(self, stream, text.split("\0"))
            else:
                self.ends[stream] = ListeningEnd(self, stream, text)
                self.streams.say(READY, stream)
        except OSError as error:
            said = error.strerror or str(error)
            if kind == RUN:  # as a shell has it
                program = text.split("\0")[0]
                self.streams.send(stream, ERRORS, "{}: {}".format(program, said).encode())
                self.streams.send(stream, EXIT, b"127")
            else:
                self.refuse(stream, said)

    def refuse(self, stream: int, why: str) -> None:
        self.ends.pop(stream, None)
        self.streams.forget(stream)
        self.streams.say(REFUSED, stream, why.encode())

    def accepted(self, listening: int, connection: socket.socket) -> None:
        self._accepted += 2
        stream = self._accepted
        self.streams.begin(stream)
        self.streams.say(ACCEPTED, stream, b"%d" % listening)
        self.ends[stream] = SocketEnd(self, stream, connection)

    def _flush(self, ready: int) -> None:
        """Write what stdout has room for."""
        while True:
            if not self._writer.waiting:
                if self.streams.idle:
                    break
                pieces, relieved = self.streams.take(_READ_BYTES)
                self._writer.waiting.append(b"".join(pieces))
                for stream in relieved:
                    if stream in self.ends:
                        self.ends[stream].resume()
            self._writer.write()
            if self._writer.waiting:
                break
        interest = _WRITE if self._writer.waiting else 0
        self.descriptors.watch(self._writer.descriptor, interest, self._flush)


def become_like_a_login() -> None:
    """`docker exec` and its like say little about who and where we are."""
    if not {"HOME", "USER", "LOGNAME"} <= os.environ.keys():
        import pwd  # noqa: PLC0415

        try:
            user = pwd.getpwuid(os.getuid())
        except KeyError:  # a container's user may have a number only
            os.environ.setdefault("HOME", "/")
        else:
            os.environ.setdefault("HOME", user.pw_dir)
            os.environ.setdefault("USER", user.pw_name)
            os.environ.setdefault("LOGNAME", user.pw_name)
    try:
        os.chdir(os.environ["HOME"])
    except OSError:
        os.chdir("/")


def main() -> None:
    """Serve stdin and stdout. To be called where the text came from."""
    read, write = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.set_blocking(read, False)
    early = sys.stdin.buffer.read() or b""  # what came right after the text
    os.dup2(null, 0)
    os.dup2(2, 1)  # whatever else prints
    os.close(null)
    become_like_a_login()
    try:
        PipeEnd(read, write).serve(early)
    except PipeError as error:
        sys.exit("the pipe to this host carries something else: {}".format(error))
