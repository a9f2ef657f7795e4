"""Starts the host's end of a pipe: the command, and the program text sent to it.

The command means the same to every shell and without one: some ways in pass it to a login shell
(ssh), others run it directly (docker exec). It makes Python print a number that the command itself
does not contain. Only an interpreter can do that, so no other program gets the text on stdin.
Output of the login before that number is skipped.
"""

from __future__ import annotations

import ast
import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from ....errors import UnusablePythonError
from .program import LOADER_BYTES, Interpreter, pipe_program
from .transport import Carrier, PipeTransport

#: We give up a login that prints this much before Python starts.
NOISE_BYTES = 1024 * 1024
_STDERR_BYTES = 64 * 1024

# Python gets a formatted string whether or not a shell removes the outer quotes: f"'{...}'" or
# f'{...}'. So the text inside has no quotes, and no character that a shell expands in quotes.
QUOTELESS_SYS = "__import__(bytes((115,121,115)).decode())"
_COMMAND = (
    "f\"'{{print({first}*{second},{sys}.version_info[:],{sys}.implementation.cache_tag,flush=True)}}"
    "{{exec({sys}.stdin.buffer.read({size}))}}'\""
)
_OLDEST = (3, 8)
_NO_STDIN = (
    "Python started{by}, but did not get its program on stdin ({last}).\n"
    "The command must pass stdin on, as `docker exec -i` and `kubectl exec -i` do"
)


class Introduction:
    """The command, and its output up to the line in which Python introduces itself."""

    def __init__(self, python: str) -> None:
        first, second = (1_000_000_000 + secrets.randbelow(9_000_000_000) for _ in range(2))
        self._token = b"%d (" % (first * second)
        text = _COMMAND.format(first=first, second=second, sys=QUOTELESS_SYS, size=LOADER_BYTES)
        #: The words to run on the host.
        self.argv = [python, "-I", "-S", "-c", text]
        #: The host's interpreter, once it has introduced itself.
        self.interpreter: Interpreter | None = None
        self._seen = b""
        self._noise = 0

    def feed(self, data: bytes) -> bytes:
        """Read output; return what follows the introduction. Raises ValueError to give up."""
        self._seen += data
        _, found, after = self._seen.partition(self._token)
        line, newline, rest = after.partition(b"\n")
        if newline:
            numbers, _, tag = line.decode("ascii").rpartition(") ")
            try:
                major, minor, _, level, _ = ast.literal_eval(f"({numbers})")
            except (SyntaxError, TypeError):
                raise ValueError("Python does not say its version") from None
            self.interpreter = Interpreter((major, minor), level, tag.strip())
            return rest
        self._noise += len(data)
        if self._noise > NOISE_BYTES:
            raise ValueError("it prints without end")
        if not found:
            self._seen = self._seen[-4096:]
        return b""

    @property
    def said(self) -> str:
        """The last output."""
        return self._seen[-1000:].decode("utf-8", "replace").strip()


@dataclass(eq=False)
class NotOpened(Exception):
    """A process that did not become the end of a pipe: its output, and how it ended."""

    why: str
    stdout: str
    stderr: str
    #: None while it runs, negative for a signal.
    returncode: int | None


class PipeStart:
    """A process on its way to a pipe: first waits for Python's introduction, then feeds the pipe.

    Carriers call its methods.
    """

    def __init__(
        self,
        introduction: Introduction,
        own_words: Callable[[str], str] = lambda text: text,
        by: str = "",
    ) -> None:
        """`own_words` removes debugging output from stderr. `by` names the way in, for errors."""
        self._introduction, self._own_words, self._by = introduction, own_words, by
        self._carrier: Carrier | None = None
        self._pipe: PipeTransport | None = None
        self._stderr = b""
        #: Raises NotOpened, AgentError.
        self.opened: asyncio.Future[PipeTransport] = asyncio.get_running_loop().create_future()

    async def within(self, seconds: float) -> PipeTransport:
        """The pipe, once it is open. Ends the process otherwise. Raises NotOpened, HostError."""
        try:
            await asyncio.wait([self.opened], timeout=seconds)
        except BaseException:
            self.abort()
            raise
        if not self.opened.done():
            self.fail(f"no answer within {seconds:.0f} s")
        return self.opened.result()

    def begin(self, carrier: Carrier) -> None:
        """The process runs."""
        self._carrier = carrier

    def data_received(self, data: bytes) -> None:
        """The process has written to stdout."""
        if self._pipe is not None:
            self._pipe.data_received(data)
            return
        if self.opened.done():
            return
        try:
            rest = self._introduction.feed(data)
        except ValueError as error:
            self.fail(str(error))
            return
        interpreter = self._introduction.interpreter
        if interpreter is None:
            return
        version = interpreter.version
        if version < _OLDEST:
            python = self._introduction.argv[0]
            said = f"{python!r} is Python {version[0]}.{version[1]}, the agent needs 3.8 or later"
            self._refuse(UnusablePythonError(said + ".\nSet the option `python` to another one."))
            return
        assert self._carrier is not None
        self._pipe = PipeTransport(self._carrier)
        self._carrier.write(pipe_program(interpreter))
        self.opened.set_result(self._pipe)
        if rest:
            self._pipe.data_received(rest)

    def errors_received(self, data: bytes) -> None:
        """The process has written to stderr."""
        self._stderr = (self._stderr + data)[-_STDERR_BYTES:]

    def pause_writing(self) -> None:
        """The process does not read as fast as we write."""
        if self._pipe is not None:
            self._pipe.pause_writing()

    def resume_writing(self) -> None:
        """The process reads again."""
        if self._pipe is not None:
            self._pipe.resume_writing()

    def ended(self, returncode: int | None) -> None:
        """The process has ended."""
        if self._pipe is not None:
            last = self._own_words(self.stderr).splitlines()[-1:] or [
                f"the process has ended ({returncode})"
            ]
            if not self._pipe.heard:
                last = [_NO_STDIN.format(by=self._by, last=last[0])]
            self._pipe.carrier_lost(last[0])
        else:
            self.fail("it has ended", returncode)

    def fail(self, why: str, returncode: int | None = None) -> None:
        """Give up: the process will not become the end of a pipe."""
        self._refuse(
            NotOpened(why, self._introduction.said, self._own_words(self.stderr), returncode)
        )

    def abort(self) -> None:
        """Nobody waits for it any more: end the process, if there is one."""
        self.opened.cancel()
        if self._carrier is not None:
            self._carrier.abort()

    @property
    def stderr(self) -> str:
        """The end of what the process has written to stderr."""
        return self._stderr.decode("utf-8", "replace").strip()

    def _refuse(self, error: Exception) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
            if self._carrier is not None:
                self._carrier.abort()
