"""Build the agent's archive, and find or start the agent on a host."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import hashlib
import importlib.resources
import importlib.util
import io
import marshal
import secrets
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

# It travels as text, so it cannot import the protocol.
from ..agent.bootstrap.find_or_start import MARKER, request
from ..errors import AgentError, UnreachableError, UnusablePythonError
from ..placement.way_in import DEFAULT_WAY
from .machine import Machine
from .transport import Transport
from .transport.base import SPEAK_SECONDS
from .transport.pipe.errors import why_not_opened
from .transport.pipe.start import QUOTELESS_SYS, NotOpened

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_HERE = "remote_provisioners"
_PACKAGE = Path(__file__).parents[1]
_THERE = "remote_provisioners_agent"
#: The packages that travel, and the module that starts the agent, which also travels as text.
_PACKAGES = ("agent", "protocol")
_START = "agent/bootstrap/find_or_start.py"
#: How long an interpreter may take to find or start the agent, over a slow link too.
_FIND_SECONDS = 60.0
#: Modules that are sent separately: a pipe's end (transport/pipe/program.py) and the main process
#: of containers. Changing them does not change the agent's version.
_PIPE = (
    "agent/bootstrap/container_init.py",
    "agent/bootstrap/head_start.py",
    "agent/pipe/__init__.py",
    "agent/pipe/descriptors.py",
    "agent/pipe/host_end.py",
    "agent/pipe/stream_ends.py",
    "protocol/multiplex.py",
)
# The agent needs no TLS. Its import would take a tenth of the agent's start. With vfork all threads
# of the agent would wait until a program runs: for ever if the program's files hang.
_MAIN = f"""import subprocess, sys
subprocess._USE_VFORK = False
sys.modules["ssl"] = None
from {_THERE}.agent.forking.first_template import load, reset_signals
reset_signals()
template = load(sys.argv[1])
from {_THERE}.agent.main import main
main(sys.argv[1], int(sys.argv[2]), template)
"""
# The command prints a number that its text does not contain, so only Python can print it. After
# that, the rest comes on stdin. The command has no space, and means the same with and without a
# shell (transport/pipe/start.py).
_COMMAND = (
    "f\"'{{({sys}.version_info<(3,8))and({sys}.exit({older}))}}{{print({first}*{second},flush=True)}}"
    "{{exec({sys}.stdin.buffer.read({size}))}}'\""
)
_OLDER = f"bytes({tuple(b'Python is older than 3.8')}).decode()".replace(" ", "")


def _sources(directory: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    """The modules below a directory, each with its path in the archive."""
    for entry in directory.iterdir():
        there = f"{path}/{entry.name}"
        if entry.name.endswith(".py"):
            yield there, entry.read_bytes()
        elif entry.is_dir() and entry.name != "__pycache__":
            yield from _sources(entry, there)


#: Read when this process imports the module (2 ms), so that the agent and the process have the same
#: protocol even if an upgrade replaces the files later.
_SOURCES = {
    path: content
    for name in _PACKAGES
    for path, content in _sources(importlib.resources.files(_HERE) / name, name)
}


@functools.cache
def _archive() -> tuple[bytes, bytes, str]:
    """The bootstrap's text, the agent as a zip file, and the digest of their sources.

    The zip file also has the compiled modules. If the host's Python has our version, they save a
    third of the agent's start. Other versions read the source.
    """
    sources = {"__init__.py": b"", **_SOURCES}
    bootstrap = sources[_START]
    for path in _PIPE:
        del sources[path]
    digest = hashlib.sha256(bootstrap + _MAIN.encode())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(sources.items()):
            digest.update(path.encode() + content)
            archive.writestr(f"{_THERE}/{path}", content)
            archive.writestr(f"{_THERE}/{path}c", _compiled(path, content))
        archive.writestr("__main__.py", _MAIN)
    return bootstrap, buffer.getvalue(), digest.hexdigest()


def _compiled(path: str, source: bytes) -> bytes:
    """The module's .pyc file, which Python does not check against its source (PEP 552)."""
    code = _installed(path, source, f"{_THERE}/{path}")
    if code is None:
        code = compile(source, f"{_THERE}/{path}", "exec", dont_inherit=True, optimize=0)
    flags = (1).to_bytes(4, "little")
    return (
        importlib.util.MAGIC_NUMBER
        + flags
        + importlib.util.source_hash(source)
        + marshal.dumps(code)
    )


def _installed(path: str, source: bytes, name: str) -> CodeType | None:
    """The code of an installed module, as from the file `name`; None if `source` is another text.

    Python has usually compiled the module before. Compiling all modules takes 60 ms.
    """
    loader = SourceFileLoader(name, str(_PACKAGE / path))
    with contextlib.suppress(OSError, ImportError):
        if not sys.flags.optimize and loader.get_data(loader.path) == source:
            code = loader.get_code(name)
            return _renamed(code, name) if code is not None else None
    return None


def _renamed(code: CodeType, name: str) -> CodeType:
    constants = tuple(_renamed(c, name) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_filename=name, co_consts=constants)


def agent_archive() -> bytes:
    """The agent as a zip file that Python runs."""
    return _archive()[1]


def agent_version() -> str:
    """The version of our agent. The name of its directory begins with it on every host."""
    return _archive()[2][:12]


def version_of(directory: str) -> str:
    """The version of the agent that has this directory."""
    return directory.rpartition("/")[2].partition("-")[0]


@dataclass(frozen=True)
class FoundAgent:
    """Where an agent listens; `host` is as find_or_start.py names it."""

    socket: str
    host: str
    machine: Machine


class AgentGoneError(Exception):
    """The requested former agent is gone from `machine`."""

    def __init__(self, why: str, machine: Machine) -> None:
        super().__init__(why)
        self.machine = machine


async def find_agent(
    transport: Transport,
    pythons: Sequence[str],
    host: str,
    former: str = "",
    expected: str = "",
    *,
    known: str = "",
) -> tuple[FoundAgent, str]:
    """Find or start the agent by the first of these interpreters that works. Returns the agent
    and the interpreter.

    `former`: the directory of an agent of another version, to start again. `expected`: the kernel
    that an agent of ours is started for (options/expected.py). `known`: where our agent was;
    none is started on another machine than that.

    Raises AgentError, AgentGoneError, UnreachableError.
    """
    failed: list[UnusablePythonError] = []
    for python in pythons:
        try:
            finding = find_or_start_agent(transport, python, host, former, expected, known=known)
            return await asyncio.wait_for(finding, _FIND_SECONDS), python
        except UnusablePythonError as error:
            failed.append(error)
        except asyncio.TimeoutError:
            text = f"cannot find or start its agent within {_FIND_SECONDS:.0f} s"
            why = "the host hangs, or the agent does not start"
            raise UnreachableError(f"{text}:\n{why}", host=host) from None
    tried = ", ".join(pythons)
    raise AgentError(f"{failed[0].message}\n(tried: {tried})", host=host)


async def find_or_start_agent(
    transport: Transport,
    python: str,
    host: str,
    former: str = "",
    expected: str = "",
    *,
    known: str = "",
) -> FoundAgent:
    """The agent on the host, found or started. Raises as find_agent, and UnusablePythonError."""
    bootstrap, archive, digest = await asyncio.to_thread(_archive)
    archive = b"" if former else archive
    header = request(digest, len(archive), former, expected, known)
    if python.startswith("~/"):
        python = "." + python[1:]  # commands run in the home directory without a shell
    first, second = (1_000_000_000 + secrets.randbelow(9_000_000_000) for _ in range(2))
    spoken = str(first * second).encode()
    code = _COMMAND.format(
        first=first, second=second, size=len(bootstrap), sys=QUOTELESS_SYS, older=_OLDER
    )
    command = [python, "-I", "-S", "-c", code]
    done = await transport.run(command, bootstrap + header + archive, after=spoken)
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        _, found, text = line.partition(MARKER)  # a login may print no newline
        if found:
            answer = ast.literal_eval(text)
            if "error" in answer:
                raise AgentError(f"cannot start the agent: {answer['error']}", host=host)
            machine = Machine(answer["name"], answer["boot"])
            if "gone" in answer:
                raise AgentGoneError(answer["gone"], machine)
            return FoundAgent(str(answer["socket"]), answer["host"], machine)
    stdout, stderr = (
        each.decode("utf-8", "replace").strip()
        for each in (done.stdout.replace(spoken, b""), done.stderr)
    )
    if done.late or spoken not in done.stdout:
        why = f"no answer within {SPEAK_SECONDS:.0f} s" if done.late else "it has ended"
        failed = NotOpened(why, stdout, stderr, done.returncode)
        raise why_not_opened(failed, DEFAULT_WAY, python).at(host)
    raise AgentError(
        f"the agent was not started (exit code {done.returncode}): {stderr[-1000:] or 'no output'}",
        host=host,
    )
