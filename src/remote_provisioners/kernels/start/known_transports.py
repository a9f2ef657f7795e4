"""Remembers which kernels bind unix sockets, by kernelspec and host.

No kernel says whether it can use unix sockets. So the first start of an unknown kernelspec on a
host asks for them. If the kernel ends instead of listening there, it starts again with ports.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir

from ... import json_file
from ...options.launch_request import LaunchRequest
from ...placement.inventory import HostSpec

#: The most entries. The oldest are forgotten first.
_MOST = 500

log = logging.getLogger(__name__)


class KnownTransports:
    """What this user's servers know, in a file. Lives in the I/O thread."""

    def __init__(self) -> None:
        self._path = Path(jupyter_data_dir(), "remote-provisioners", "transports.json")
        self._known: dict[str, str] | None = None

    async def of(self, spec: HostSpec, request: LaunchRequest) -> str:
        """How the kernel listens: "ipc" or "tcp"; "" if nobody has started it on this host yet."""
        if self._known is None:
            self._known = await asyncio.get_running_loop().run_in_executor(None, self._read)
        return self._known.get(_key(spec, request), "")

    async def note(self, spec: HostSpec, request: LaunchRequest) -> None:
        """Remember that the kernel listens as `request` asks."""
        await self._change(_key(spec, request), request.transport)

    async def forget(self, spec: HostSpec, request: LaunchRequest) -> None:
        """Forget how the kernel listens: its start has failed."""
        await self._change(_key(spec, request), "")

    async def _change(self, key: str, transport: str) -> None:
        if self._known is not None:
            _set(self._known, key, transport)
        await asyncio.get_running_loop().run_in_executor(None, self._write, key, transport)

    async def close(self) -> None:
        """Nothing is open."""

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_text("utf-8"))["transports"]
            return {str(key): str(value) for key, value in found.items() if value in ("ipc", "tcp")}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # none yet, or damaged: the next starts show it again

    def _write(self, key: str, transport: str) -> None:
        """Change an entry. Other servers of this user may have changed others."""
        known = self._read()
        _set(known, key, transport)
        known = dict(list(known.items())[-_MOST:])
        try:
            json_file.replace(self._path, {"transports": known})
        except OSError as error:
            log.warning("cannot write %s: %s", self._path, error)


def _set(known: dict[str, str], key: str, transport: str) -> None:
    known.pop(key, None)
    if transport:
        known[key] = transport


def _key(spec: HostSpec, request: LaunchRequest) -> str:
    """Of a kernelspec on a host: another environment may have another kernel of that name."""
    place = "" if spec.address.is_temporary else spec.name
    what = [place, spec.hook, spec.python, *request.argv, sorted(request.env.items())]
    return hashlib.sha256(json.dumps(what).encode("utf-8", "surrogateescape")).hexdigest()
