"""Docker as an engine: `docker run` gives a container, `docker exec` leads into it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from ...errors import ConfigurationError, HostError, KernelStartError
from ...options.launch_request import LaunchRequest
from ...placement.host_address import HostAddress
from ...placement.way_in import COMMAND, WayIn
from ...user import user_and_machine
from ..base import Engine, Launch, Node, Progress
from ..main_process import main_process
from .address import ContainerAddress
from .program import DockerError, DockerProgram

LABEL = "remote-provisioners"
#: The limit for `docker run`, whose image is there.
_RUN_SECONDS = 120.0
#: A word that no shell changes.
_PLAIN = re.compile(r"[A-Za-z0-9_./+@%:,=-]+")
_NO_PROGRAM = re.compile(r"executable file|no such file or directory|not found", re.IGNORECASE)


@dataclass(frozen=True)
class ContainerNode(Node):
    """A container. `host` is its name."""

    #: The words of the docker program.
    program: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "program", tuple(self.program))  # a record has a list

    @property
    def address(self) -> HostAddress:
        way = WayIn(COMMAND, (*self.program, "exec", "-i", self.host))
        return ContainerAddress(self.host, way=way, program=self.program)


@dataclass(frozen=True)
class ContainerOptions:
    """A kernelspec's options for its containers. Every value is a word or part of one."""

    image: str
    pull: str = "missing"
    user: str = ""
    volumes: Sequence[str] = ()
    network: str = "none"
    memory: str = ""
    cpus: str = ""
    gpus: str = ""
    read_only: bool = False
    python: str = ""
    #: Words before docker's that lead to the machine where it runs.
    way: Sequence[str] = field(default=())

    def words(self) -> list[str]:
        """The options of `docker run`. A value is part of a word, so it cannot be an option."""
        given = {"user": self.user, "network": self.network, "memory": self.memory}
        given |= {"cpus": self.cpus, "gpus": self.gpus}
        words = [f"--{name}={value}" for name, value in given.items() if value]
        words += [f"--volume={volume}" for volume in self.volumes]
        if self.read_only:
            words += ["--read-only", "--tmpfs=/tmp:rw,mode=1777"]
        return words


class DockerEngine(Engine):
    """Docker for one kernelspec."""

    name = "Docker"
    node_type = ContainerNode
    node_stays = True

    def __init__(self, program: Sequence[str], options: ContainerOptions) -> None:
        self._options = options
        self._program = DockerProgram((*options.way, *program))
        self._doing = ""

    async def check(self) -> None:
        """Does nothing, because `submit` reports every error of the daemon."""

    async def submit(self, launch: Launch) -> asyncio.Future[Node]:
        self._doing = f"starts a container from the image {self._options.image}"
        return asyncio.ensure_future(self._start(launch))

    async def _start(self, launch: Launch) -> Node:
        pull = self._options.pull
        words = self._run_words(launch)
        if pull == "always":
            await self._pull()
        try:
            await self._run(words)
        except DockerError as error:
            if pull != "missing" or await self._has_image():
                raise self._not_started(error) from None
            await self._pull()
            try:
                await self._run(words)
            except DockerError as again:
                raise self._not_started(again) from None
        python = self._options.python
        return ContainerNode(launch.tag, "", python, "", program=self._program.words)

    async def _run(self, words: Sequence[str]) -> None:
        """Run docker. Even if cancelled, it waits, so that `cancel` finds the container."""
        running = asyncio.ensure_future(self._program.run(*words, seconds=_RUN_SECONDS))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise

    def _run_words(self, launch: Launch) -> list[str]:
        """Raises ConfigurationError."""
        request, options = launch.request, self._options
        labels = {
            "kernel": request.kernel_id,
            "server": user_and_machine(),
            "user": request.request_env.get("KERNEL_USERNAME", ""),
        }
        words = ["run", "--detach", "--rm", "--pull=never", f"--name={launch.tag}"]
        words += [f"--label={LABEL}.{name}={value}" for name, value in labels.items() if value]
        words += [*options.words(), options.image]
        if options.way:
            for word in words:
                if not _PLAIN.fullmatch(word):
                    raise ConfigurationError(
                        f"with the option `connect`, a shell may read {word!r}.\n"
                        "Use only letters, digits and _./+@%:,=- in the options."
                    )
        process = main_process(options.python, request, through_shell=bool(options.way))
        return [*words, *process]

    async def _has_image(self) -> bool:
        try:
            await self._program.run("image", "inspect", self._options.image)
        except DockerError:
            return False
        return True

    async def _pull(self) -> None:
        """Raises KernelStartError, HostError."""
        image = self._options.image
        self._doing = f"pulls the image {image}"
        try:
            await self._program.run("pull", "--quiet", image, seconds=None)
        except DockerError as error:
            raise KernelStartError(
                f"{self._program.name} cannot pull the image {image}:\n{error.said}\n"
                "Correct the option `image`, or log in to its registry as the server's user."
            ) from None
        self._doing = f"starts a container from the image {image}"

    def _not_started(self, error: DockerError) -> KernelStartError:
        image, python = self._options.image, self._options.python or "python3"
        if error.absent:
            return KernelStartError(
                f"there is no image {image} (option `pull`: {self._options.pull}):\n{error.said}"
            )
        if error.code in (126, 127) and _NO_PROGRAM.search(error.said) and python in error.said:
            return KernelStartError(
                f"the image {image} has no {python}: a kernel's container needs Python 3.8 or "
                f"later.\nUse another image, or set the option `python` to its interpreter."
            )
        return KernelStartError(
            f"{self._program.name} did not start a container from {image}:\n{error.said}"
        )

    async def follow(self, tag: str) -> Progress | None:
        if self._doing:
            return Progress(tag, f"{self._program.name} {self._doing}")
        state = await self._program.state(tag)
        return None if state is None else Progress(tag, state.status, over=bool(state.end))

    async def cancel(self, tag: str) -> None:
        """Kill and remove the container."""
        self._doing = ""
        try:
            await self._program.run("rm", "--force", tag)
        except DockerError as error:
            if not error.absent and await self._program.state(tag) is not None:
                raise HostError(f"cannot remove the container {tag}: {error.said}") from None

    async def diagnose(self, tag: str) -> str:
        state = await self._program.state(tag)
        end = state.end if state is not None else await self._program.why_gone(tag)
        return f"the container {tag} has ended: {end or 'it was removed'}"

    def checks(self) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
        async def daemon() -> str:
            try:
                version = await self._program.run("version", "--format", "{{.Server.Version}}")
            except DockerError as error:
                raise HostError(f"{self._program.name}: {error.said}") from None
            return f"{self._program.name} reaches a daemon, version {version}"

        async def image() -> str:
            name = self._options.image
            if await self._has_image():
                return f"{name} is there"
            if self._options.pull == "never":
                raise KernelStartError(
                    f"there is no image {name}, and the option `pull` is never.\n"
                    f"Pull it, or set `pull` to missing."
                )
            return f"{name} is not there: the next start pulls it"

        return [("daemon", daemon), ("image", image)]

    def kernel_request(self, request: LaunchRequest, node: Node) -> LaunchRequest:
        self._doing = ""
        return super().kernel_request(request, node)
