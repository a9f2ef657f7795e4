"""The files of each host, shared by this process. Lives in the I/O thread."""

from __future__ import annotations

from collections.abc import Sequence

from ..events import Event, HostForgotten, events
from ..hosts.host import Host
from ..io_thread import io_thread
from .host_files import HostFiles


class FilePool:
    """Keeps connections to agents for the next request."""

    def __init__(self) -> None:
        self._files: dict[tuple[Host, tuple[str, ...]], HostFiles] = {}
        self._stop = events.listen(self._heard)

    def of(self, host: Host, roots: Sequence[str]) -> HostFiles:
        """The files of a host, below these directories."""
        key = (host, tuple(roots))
        if key not in self._files:
            for other in [other for other in self._files if other[0].closed]:
                self._files.pop(other).close()
            self._files[key] = HostFiles(host, roots)
        return self._files[key]

    def _heard(self, event: Event) -> None:
        if isinstance(event, HostForgotten):
            for key in [key for key in self._files if key[0] is event.host]:
                self._files.pop(key).close()

    async def close(self) -> None:
        self._stop()
        for files in self._files.values():
            files.close()
        self._files.clear()


async def file_pool() -> FilePool:
    """This process's pool. Call this in the I/O thread. The thread closes the pool at its end."""
    return io_thread().own(FilePool)
