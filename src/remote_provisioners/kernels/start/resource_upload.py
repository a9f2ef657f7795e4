"""Send a kernelspec's resource directory to a host, once for each version of its content."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import tarfile
from collections.abc import Iterator, Set
from pathlib import Path

from ...errors import ConfigurationError
from ...hosts.agent_channel import AgentChannel
from ...protocol.agent_requests import HasResources, PutResources
from ...protocol.wire import MAX_FRAME

_MOST_BYTES = MAX_FRAME // 2


class ResourceArchive:
    """The files below a directory as a tar without dates and owners, with its digest."""

    def __init__(self, directory: Path) -> None:
        """Raises ConfigurationError if the directory is unreadable or too large."""
        buffer = io.BytesIO()
        try:
            with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
                for path in _inside(directory, {directory.resolve()}):
                    member = archive.gettarinfo(str(path), str(path.relative_to(directory)))
                    # Otherwise tar would store the second name of a file as a link to the first.
                    archive.inodes.clear()  # type: ignore[attr-defined]
                    member.mtime = member.uid = member.gid = 0
                    member.uname = member.gname = ""
                    if member.isfile():
                        with path.open("rb") as file:
                            archive.addfile(member, file)
                    else:
                        archive.addfile(member)
                    if buffer.tell() > _MOST_BYTES:
                        raise ConfigurationError(
                            f"the kernelspec directory {directory} is larger than "
                            f"{_MOST_BYTES // 1024**2} MiB"
                        )
        except OSError as error:
            raise ConfigurationError(
                f"cannot read the kernelspec directory {directory}: {error.strerror}"
            ) from None
        self.content = buffer.getvalue()
        self.digest = hashlib.sha256(self.content).hexdigest()

    async def put(self, channel: AgentChannel) -> str:
        """Send the archive unless the host has it. Returns the digest. Raises KernelStartError."""
        asked = await channel.request(HasResources(digest=self.digest))
        if not asked.present:
            archive = base64.b64encode(self.content).decode("ascii")
            await channel.request(PutResources(digest=self.digest, archive=archive))
        return self.digest


def _inside(directory: Path, above: Set[Path]) -> Iterator[Path]:
    """The files and directories below a directory, also those that links lead to. `above`: the
    directory and those above it; a link to one of them would lead in a circle, so it is left out.
    """
    for path in sorted(directory.iterdir()):
        if path.is_file():
            yield path
        elif path.is_dir() and (there := path.resolve()) not in above:
            yield path
            yield from _inside(path, above | {there})


async def put_resources(directory: Path | None, channel: AgentChannel) -> str:
    """Send a kernelspec's directory. Returns its digest, "" where none is needed."""
    if directory is None:
        return ""
    # In a thread: it may be on a slow file system.
    archive = await asyncio.get_running_loop().run_in_executor(None, ResourceArchive, directory)
    return await archive.put(channel)
