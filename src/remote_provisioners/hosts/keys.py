"""Noticing that the user's means to log in have changed: files, and the keys in the SSH agent."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_POLL_SECONDS = 2.0
_AGENT_SECONDS = 2.0
#: SSH_AGENTC_REQUEST_IDENTITIES (draft-miller-ssh-agent).
_REQUEST_IDENTITIES = struct.pack(">IB", 1, 11)
#: The files of keys and certificates, and the SSH agents' sockets, that logins have tried.
_tried: set[str] = set()
_agents: set[str] = set()
#: Which look was the last, and what it finds.
_last: tuple[object, asyncio.Future[tuple[object, ...]]] | None = None


def tried(files: Iterable[str], agent: str = "") -> None:
    """A login has tried these, as the SSH configuration names them: they are watched as well."""
    _tried.update(os.path.expanduser(file) for file in files)
    if agent:
        _agents.add(agent)


async def until_changed(timeout: float) -> None:
    """Return once they are not what they were, or after `timeout` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    watched = frozenset(_tried), frozenset(_agents)  # what later logins try is no change
    before = await _state(*watched)
    while loop.time() < deadline:
        await asyncio.sleep(min(_POLL_SECONDS, max(0.0, deadline - loop.time())))
        if await _state(*watched) != before:
            return


async def _state(tried: frozenset[str], agents: frozenset[str]) -> tuple[object, ...]:
    """What they are. One look serves all that ask at the time: many hosts may refuse a key."""
    global _last
    loop = asyncio.get_running_loop()
    which = loop, loop.time() // _POLL_SECONDS, tried, agents
    if _last is None or _last[0] != which:
        _last = which, asyncio.ensure_future(_look(tried, agents))
    return await asyncio.shield(_last[1])


async def _look(tried: frozenset[str], agents: frozenset[str]) -> tuple[object, ...]:
    loop = asyncio.get_running_loop()
    files = await loop.run_in_executor(None, _files, tried)  # home may be NFS
    return (*files, await _agents_keys(agents))


def _files(tried: frozenset[str]) -> tuple[object, ...]:
    """What tells that a file in ~/.ssh, another file of a key, or the Kerberos ticket, is not the
    one that it was.
    """
    ticket = os.environ.get("KRB5CCNAME") or f"/tmp/krb5cc_{os.getuid()}"  # noqa: S108
    paths = [Path(ticket.removeprefix("FILE:"))]
    with contextlib.suppress(OSError, RuntimeError):
        paths += sorted(Path("~/.ssh").expanduser().iterdir())
    paths += [Path(name) for name in sorted(tried)]
    found: list[object] = []
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            status = path.stat()
            found.append((str(path), status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)


async def _agents_keys(agents: frozenset[str]) -> str:
    """Digests of what the SSH agents offer, "" for one that does not answer."""
    paths = sorted({os.environ.get("SSH_AUTH_SOCK", ""), *agents} - {""})
    return " ".join(await asyncio.gather(*(_offered(path) for path in paths)))


async def _offered(path: str) -> str:
    try:
        return await asyncio.wait_for(_ask_agent(path), _AGENT_SECONDS)
    except (OSError, EOFError, asyncio.TimeoutError):
        return ""


async def _ask_agent(path: str) -> str:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(_REQUEST_IDENTITIES)
        (length,) = struct.unpack(">I", await reader.readexactly(4))
        return hashlib.sha256(await reader.readexactly(min(length, 1 << 20))).hexdigest()
    finally:
        writer.close()
