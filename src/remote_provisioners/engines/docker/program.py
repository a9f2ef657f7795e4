"""The program docker, or one that takes the same words (Podman): runs it and reads what it says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import AuthenticationError, HostError, UnreachableError
from ...hosts.transport.pipe.errors import last_lines

_SECONDS = 20.0
_DENIED = re.compile(r"permission denied.*(docker|daemon|socket|podman)", re.IGNORECASE | re.DOTALL)
_AWAY = re.compile(
    r"cannot connect to|error during connect|is the docker daemon running",
    re.IGNORECASE,
)
_ABSENT = re.compile(
    r"no such (container|object|image)|no container with|image not known", re.IGNORECASE
)
#: Exit codes of a container, by the signal or by Docker itself.
_OUT_OF_MEMORY = "it used more memory than its limit allows (option `memory`)"
_ENDS = {
    137: "it was killed (SIGKILL)",
    143: "it was told to end (SIGTERM)",
}


class DockerError(Exception):
    """The program has failed. `said`: its own words, on short lines."""

    def __init__(self, code: int, stderr: str) -> None:
        self.code = code
        self.said = last_lines(stderr) or f"it said nothing (exit code {code})"
        self.absent = bool(_ABSENT.search(stderr))
        super().__init__(self.said)


@dataclass(frozen=True)
class ContainerState:
    """What Docker says of a container. `end`: how it has ended, "" while it runs."""

    status: str
    end: str


class DockerProgram:
    """Runs the program. Its first words may lead to another machine."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.name = self.words[-1]

    async def run(self, *words: str, seconds: float | None = _SECONDS) -> str:
        """Its output. Raises HostError where Docker cannot be used, DockerError if it fails."""
        argv = [*self.words, *words]
        quiet = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=quiet,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise UnreachableError(
                f"cannot run {argv[0]!r} on this machine: {error.strerror}.\n"
                "Install it, or set the option `docker_program` to another program."
            ) from None
        try:
            out, err = await asyncio.wait_for(process.communicate(), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            raise UnreachableError(
                f"{self.name} {words[0]} did not end within {seconds:g} s"
            ) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        stderr = err.decode("utf-8", "replace")
        if process.returncode == 0:
            return out.decode("utf-8", "replace").strip()
        self._refuse_unusable(stderr)
        raise DockerError(process.returncode or 0, stderr)

    def _refuse_unusable(self, stderr: str) -> None:
        """Raises HostError if Docker itself cannot be used."""
        if _DENIED.search(stderr):
            raise AuthenticationError(
                f"the server's user may not use {self.name}: {last_lines(stderr, 1)}\n"
                "Add this user to the group docker, or set DOCKER_HOST to another daemon."
            )
        if _AWAY.search(stderr):
            raise UnreachableError(
                f"{self.name} does not reach its daemon: {last_lines(stderr, 1)}\n"
                "Start it, or set DOCKER_HOST to the daemon's address."
            )

    async def state(self, container: str) -> ContainerState | None:
        """The state of a container; None if there is none of this name. Raises HostError."""
        try:
            found = json.loads(await self.run("container", "inspect", container))
        except DockerError as error:
            if error.absent:
                return None
            raise HostError(f"{self.name} does not describe {container}: {error.said}") from None
        except ValueError:
            raise HostError(f"{self.name} describes {container} in an unknown form") from None
        return read_state(found[0].get("State") or {})

    async def why_gone(self, container: str, since: float = 3600.0) -> str:
        """Why a container has ended, by the events of the last seconds; "" if that is unknown."""
        now = int(time.time())
        words = ["--since", str(int(now - since)), "--until", str(now + 1)]
        words += ["--filter", f"container={container}", "--format", "json"]
        try:
            said = await self.run("events", *words)
        except (DockerError, HostError):
            return ""
        return read_events(said)


def read_state(state: dict[str, Any]) -> ContainerState:
    """The state as `inspect` gives it. Pure."""
    status = str(state.get("Status", "")).lower()
    if status not in ("exited", "dead", "removing", "stopped"):
        return ContainerState(status, "")
    if state.get("OOMKilled"):
        return ContainerState(status, _OUT_OF_MEMORY)
    return ContainerState(status, end_text(int(state.get("ExitCode", 0)), state.get("Error", "")))


def read_events(lines: str) -> str:
    """Why a container has ended, by the lines of `events`. Pure."""
    oom, code = False, None
    for line in lines.splitlines():
        with contextlib.suppress(ValueError, AttributeError):
            event = json.loads(line)
            action = str(event.get("Action") or event.get("status") or event.get("Status"))
            oom = oom or action == "oom"
            if action in ("die", "died"):
                attributes = (event.get("Actor") or event).get("Attributes") or {}
                code = int(attributes.get("exitCode", event.get("ContainerExitCode", 0)))
    if code is None:
        return ""
    return _OUT_OF_MEMORY if oom else end_text(code)


def end_text(code: int, error: str = "") -> str:
    """How a container's main process has ended, in words."""
    if error:
        return error
    return _ENDS.get(code, f"its main process ended with exit code {code}")
