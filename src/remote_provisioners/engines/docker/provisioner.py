"""DockerProvisioner: kernels in containers of Docker or Podman."""

from __future__ import annotations

import re
from typing import Any

from traitlets import Unicode

from ...contract import RemoteProvisioner
from ...errors import ConfigurationError
from ...options.kinds import Flag, Names, Text, Way
from ...options.launch_request import LaunchRequest
from ...placement.placer import Placer
from ...placement.way_in import check_connect, check_words
from ..option_checks import check_python, with_username
from ..placer import EnginePlacer
from .engine import ContainerOptions, DockerEngine

_PULLS = ("missing", "always", "never")
#: A word that cannot be an option: it begins with a letter, a digit, a path or a placeholder.
_WORD = re.compile(r"[A-Za-z0-9_./{][^\0\n]*")


class DockerProvisioner(RemoteProvisioner):
    """Starts each kernel in a separate container, from an image with the kernel."""

    image = Text(
        "",
        help="""The image of the containers, such as quay.io/jupyter/scipy-notebook. It must have
        Python 3.8 or later and the kernel. It does not need this package.""",
    ).tag(config=True)

    pull = Text(
        "missing",
        help="""When to pull the image: missing (if it is not there), always or never.""",
    ).tag(config=True)

    container_user = Text(
        "",
        help="""The user in the container: a name or an id, or user:group. {username} is replaced
        with the request's KERNEL_USERNAME, otherwise the server's user. Empty: the image's
        user.""",
    ).tag(config=True)

    volumes = Names(
        trait=Unicode(),
        help="""Directories and volumes for the container, written as for docker run --volume, such
        as /home/{username}:/home/work or data:/data:ro. {username} is replaced as in
        container_user.""",
    ).tag(config=True)

    network = Text(
        "none",
        help="""The container's network. With none, the kernel has no network at all. The server
        still reaches the kernel. bridge is Docker's usual network.""",
    ).tag(config=True)

    memory = Text("", help="""The limit of the container's memory, such as 4g.""").tag(config=True)

    cpus = Text("", help="""The limit of the container's cores, such as 1.5.""").tag(config=True)

    gpus = Text(
        "", help="""The container's GPUs, written as for docker run --gpus: all, 2, device=0."""
    ).tag(config=True)

    read_only = Flag(
        False,
        help="""If true, the kernel can change files only in /tmp (in memory) and in volumes.""",
    ).tag(config=True)

    python = Text(
        "",
        help="""The interpreter in the image that runs the agent and Python kernels, such as
        /opt/conda/bin/python. Empty: python3 on the image's PATH.""",
    ).tag(config=True)

    docker_program = Text(
        "docker",
        help="""The program that manages containers: docker, podman, or a path.""",
    ).tag(config=True)

    connect = Way(
        default_value="",
        help="""The words of a command that runs docker on another machine, such as ["ssh", "gpu1"].
        docker and its words follow them. Empty: docker runs on this machine. DOCKER_HOST in the
        server's environment names the daemon.""",
    ).tag(config=True)

    def _make_placer(self) -> Placer:
        return EnginePlacer(self, DockerEngine)

    def _check_options(self) -> None:
        super()._check_options()
        if self.pull not in _PULLS:
            raise ConfigurationError(f"pull is {self.pull!r}, must be one of {', '.join(_PULLS)}")
        for name in ("image", "docker_program"):
            value = getattr(self, name)
            if value and not _WORD.fullmatch(value):
                raise ConfigurationError(f"{name} is {value!r}, must be a name or a path")
        check_python(self.python)
        for name in ("container_user", "network", "memory", "cpus", "gpus"):
            value = getattr(self, name)
            if value and not _WORD.fullmatch(value):
                raise ConfigurationError(
                    f"{name} is {value!r}, must begin with a letter or a digit"
                )
        for volume in self.volumes:
            if not _WORD.fullmatch(volume):
                raise ConfigurationError(
                    f"volumes: {volume!r} must be like /here:/there or name:/there"
                )
        self._way()
        self._filled("container_user", [self.container_user] if self.container_user else [])
        self._filled("volumes", self.volumes)

    def engine(self, request: LaunchRequest | None) -> DockerEngine:
        """Docker for this request. Raises ConfigurationError."""
        for name in ("image", "docker_program"):
            if not getattr(self, name):
                raise ConfigurationError(f"the option `{name}` is empty: set it (docs/docker.md)")
        user = self.container_user
        options = ContainerOptions(
            image=self.image,
            pull=self.pull,
            user=self._filled("container_user", [user])[0] if user else "",
            volumes=self._filled("volumes", self.volumes),
            network=self.network,
            memory=self.memory,
            cpus=self.cpus,
            gpus=self.gpus,
            read_only=self.read_only,
            python=self.python,
            way=self._way(),
        )
        return DockerEngine((self.docker_program,), options)

    def _way(self) -> tuple[str, ...]:
        words = check_connect("connect", self.connect)
        if isinstance(words, str) and words:
            raise ConfigurationError(f"connect is {words!r}, must be the words of a command")
        return check_words("connect", words, frozenset()) if words else ()

    def _filled(self, option: str, words: Any) -> tuple[str, ...]:
        return with_username(option, words, self.username)
