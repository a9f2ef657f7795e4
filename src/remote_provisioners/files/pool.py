"""The files of each host, shared by this process. Lives in the I/O thread."""

from __future__ import annotations

from collections.abc import Sequence

from ..hosts.host import Host
from ..io_thread import io_thread
from .host_files import HostFiles


class FilePool:
    """Keeps connections to agents for the next request."""

    def __init__(self) -> None:
        self._files: dict[tuple[Host, tuple[str, ...]], HostFiles] = {}

    def of(self, host: Host, roots: Sequence[str]) -> HostFiles:
        """The files of a host, below these directories."""
        key = (host, tuple(roots))
        if key not in self._files:
            self._files[key] = HostFiles(host, roots)
        return self._files[key]

    async def close(self) -> None:
        for files in self._files.values():
            files.close()
        self._files.clear()


async def file_pool() -> FilePool:
    """This process's pool. Call this in the I/O thread. The thread closes the pool at its end."""
    return io_thread().own(FilePool)
