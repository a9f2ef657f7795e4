"""A host by a command of this machine that runs programs there: docker, kubectl, sudo and others.

The words after it mean the same whether or not a shell reads them (pipe/start.py).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence

from ...errors import AgentError, UnreachableError
from ...placement.host_address import HostAddress
from ...placement.way_in import WayIn
from .pipe.errors import why_not_opened
from .pipe.process import ProcessCarrier
from .pipe.start import Introduction, NotOpened, PipeStart
from .pipe.transport import PipeTransport

#: The limit for the first answer: a command may log in somewhere, or wake a machine.
COMMAND_SECONDS = 20.0
_PLAIN = re.compile(r"[A-Za-z0-9_./+@%:,=-]+")


async def connect_by_command(address: HostAddress, python: str) -> PipeTransport:
    """Run the command, which starts Python on the host. Raises HostError."""
    way, name = address.way, str(address)
    if not _PLAIN.fullmatch(pipe_python(python)):
        raise AgentError(
            f"the interpreter {python!r} has characters that a shell may read.\n"
            "Give it a plain path (a link), and set the option `python` to that path.",
            host=name,
        )
    introduction = Introduction(pipe_python(python))
    argv = [*way.command, *way.become, *introduction.argv]
    try:
        return await open_process(argv, introduction, COMMAND_SECONDS, f" by {way}")
    except FileNotFoundError:
        if shutil.which(argv[0]) is not None:
            raise UnreachableError(
                f"cannot run {argv[0]!r} ({way}):\n"
                "the interpreter in its first line is not there.\n"
                "Correct that line, or set the option `connect` to another way in.",
                host=name,
            ) from None
        raise UnreachableError(
            f"there is no program {argv[0]!r} on this machine ({way}).\n"
            "Install it, or set the option `connect` to another way in.",
            host=name,
        ) from None
    except OSError as error:
        raise UnreachableError(
            f"cannot run {argv[0]!r} ({way}): {error.strerror}.\n"
            "The option `connect` must begin with an executable program.",
            host=name,
        ) from None
    except NotOpened as failed:
        raise why_not_opened(failed, way, python).at(name) from None


def pipe_python(python: str) -> str:
    """The interpreter for the pipe's end. A path below ~ becomes python3: a command knows no ~."""
    return "python3" if python.startswith("~/") else python


def login_python(python: str, way: WayIn) -> str:
    """The interpreter where a login begins in the user's home directory: ~/x becomes ./x."""
    if python.startswith("~/") and not way.run_as:
        return "." + python[1:]
    return pipe_python(python)


async def open_process(
    argv: Sequence[str], introduction: Introduction, seconds: float, by: str
) -> PipeTransport:
    """Start a process of this machine that becomes a pipe. Raises OSError, NotOpened, AgentError.

    `by` names it in errors. Leaves no process when it fails or is cancelled.
    """
    start = PipeStart(introduction, by=by)
    ProcessCarrier(argv, start)
    return await start.within(seconds)
