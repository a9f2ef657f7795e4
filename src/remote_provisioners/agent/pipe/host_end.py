"""The host's end of a pipe: joins the streams of stdin and stdout to sockets and programs here.

The server sends it over the pipe to an interpreter that waits there (hosts/transport/pipe/program).
It lives as long as the pipe and keeps no state: the agent and the kernels do not depend on it.
Standard library only, and no slow imports: this runs before anything else does. The agent's archive
does not contain it.
"""

from __future__ import annotations

import os
import sys
import time

from ...protocol.multiplex import (
    CLOSE,
    DATA,
    END,
    ERRORS,
    EXIT,
    LISTEN,
    OPEN,
    READY,
    RUN,
    Multiplexer,
    PipeError,
)
from .descriptors import READ, WRITE, Writer, enlarge_pipe, keep_freed_memory, nothing
from .stream_ends import READ_BYTES, ConnectingEnd, ListeningEnd, Pipe, ProgramEnd

#: The server says something every few seconds. One that is silent for this long is gone.
SILENT_SECONDS = 60.0
#: How often we look whether a program has ended, once it has closed its output.
_ENDED_SECONDS = 0.005


class PipeEnd(Pipe):
    """Joins stdin and stdout to the ends of their streams: sockets and programs."""

    def __init__(self, read: int, write: int) -> None:
        super().__init__(Multiplexer())
        self._read_end = read
        self._writer = Writer(write, nothing)
        self._open = True
        self._heard = time.monotonic()
        for descriptor in (read, write):
            os.set_blocking(descriptor, False)
        self.descriptors.watch(read, READ, self._read)

    def serve(self, early: bytes) -> None:
        """Serve until the server closes the pipe or has been silent for too long."""
        try:
            self._receive(early)
            while self._open and time.monotonic() - self._heard < SILENT_SECONDS:
                self._flush(WRITE)
                soon = self.ending or self.again
                self.descriptors.wait(_ENDED_SECONDS if soon else SILENT_SECONDS / 4)
                self.ending = [program for program in self.ending if not program.ended()]
                self.again = [waiting for waiting in self.again if not waiting.attempt()]
        except BrokenPipeError:
            pass  # nobody reads any more: the pipe is closed
        finally:
            for end in list(self.ends.values()):
                if isinstance(end, ListeningEnd):
                    end.close()

    def _read(self, ready: int) -> None:
        try:
            data = os.read(self._read_end, READ_BYTES)
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
                if self.streams.knows(stream):  # otherwise it was refused already
                    self.ends.setdefault(stream, connecting)
            elif kind == RUN:
                self.ends[stream] = ProgramEnd(self, stream, text.split("\0"))
            else:
                self.ends[stream] = ListeningEnd(self, stream, text)
                self.streams.say(READY, stream)
        except OSError as error:
            said = error.strerror or str(error)
            if kind == RUN:  # as a shell reports it
                program = text.split("\0")[0]
                self.streams.send(stream, ERRORS, "{}: {}".format(program, said).encode())
                self.streams.send(stream, EXIT, b"127")
            else:
                self.refuse(stream, said)

    def _flush(self, ready: int) -> None:
        """Write as much as stdout has room for."""
        while True:
            if not self._writer.waiting:
                if self.streams.idle:
                    break
                pieces, relieved = self.streams.take(READ_BYTES)
                self._writer.waiting.extend(pieces)
                for stream in relieved:
                    if stream in self.ends:
                        self.ends[stream].resume()
            self._writer.write()
            if self._writer.waiting:
                break
        interest = WRITE if self._writer.waiting else 0
        self.descriptors.watch(self._writer.descriptor, interest, self._flush)


def become_like_a_login() -> None:
    """Set HOME, USER and LOGNAME and go home: `docker exec` and the like do not."""
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
    """Serve stdin and stdout. The text's last line calls this."""
    read, write = os.dup(0), os.dup(1)
    try:
        null = os.open(os.devnull, os.O_RDONLY)
    except OSError:  # a chroot without /dev: the agent says whether it can run there
        null, unused = os.pipe()
        os.close(unused)
    os.set_blocking(read, False)
    early = sys.stdin.buffer.read() or b""  # bytes that came right after the text
    os.dup2(null, 0)
    os.dup2(2, 1)  # nothing else may print into the pipe
    os.close(null)
    enlarge_pipe(write)
    keep_freed_memory()
    become_like_a_login()
    try:
        PipeEnd(read, write).serve(early)
    except PipeError as error:
        sys.exit("another program has written to the pipe to this host: {}".format(error))
