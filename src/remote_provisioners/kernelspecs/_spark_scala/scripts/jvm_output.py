"""Reads what a JVM prints, through a named pipe that both processes open."""

import codecs
import os
import secrets
import select
import shutil
import tempfile
import threading

_PIECE = 64 * 1024
#: How long to wait for more output, so that a loop that prints does not make a message per line.
_GATHER_SECONDS = 0.02
_FLUSH_SECONDS = 5.0


class Output:
    """Calls `sink`, in a thread of its own, with the text that the JVM writes to `path`."""

    def __init__(self, sink):
        self._sink = sink
        self._directory = tempfile.mkdtemp(prefix="scala-output-")  # 0700
        self.path = os.path.join(self._directory, "pipe")
        os.mkfifo(self.path, 0o600)
        self._reading = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        # We keep this end open, so that there is never an end of file.
        self._writing = os.open(self.path, os.O_WRONLY)
        self._mark = b"\0" + secrets.token_hex(16).encode() + b"\0"
        self._wanted, self._reached = threading.Event(), threading.Event()
        threading.Thread(target=self._read, name="scala-output", daemon=True).start()

    def opened(self):
        """The JVM has opened the pipe too: remove its name."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def flush(self):
        """Wait until `sink` has got everything that is in the pipe."""
        self._reached.clear()
        self._wanted.set()
        os.write(self._writing, self._mark)
        self._reached.wait(_FLUSH_SECONDS)
        self._wanted.clear()

    def _read(self):
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        kept = b""
        while True:
            select.select([self._reading], [], [])
            self._wanted.wait(_GATHER_SECONDS)
            kept += os.read(self._reading, _PIECE)
            before, found, after = kept.partition(self._mark)
            while found:
                self._give(decoder.decode(before))
                self._reached.set()
                before, found, after = after.partition(self._mark)
            begun = before.rfind(b"\0")
            split = begun if begun >= 0 and self._mark.startswith(before[begun:]) else len(before)
            self._give(decoder.decode(before[:split]))
            kept = before[split:]

    def _give(self, text):
        if text:
            self._sink(text)
