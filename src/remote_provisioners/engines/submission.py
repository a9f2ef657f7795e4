"""A container for one kernel, from a resource manager: submitted, followed until its launcher
reports, ended if it does not come to that. In the I/O thread.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import HostError, KernelStartError, RemoteProvisionerError
from ..hosts.deploy_agent import agent_archive
from ..io_thread import io_thread
from .certificate import identity
from .yarn.resource_manager import Application, ResourceManager

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.3
_REPORT_SECONDS = 10.0
#: For an application that is killed to be over, and how often that is asked.
_KILL_SECONDS = 10.0
_KILL_POLL_SECONDS = 0.2
#: What spark-submit said last is shown when it fails.
_TAIL_BYTES = 3000

_LAUNCHER = """\
import base64, os, sys, tempfile
temporary = os.environ.get("TMPDIR", "/tmp")
if not os.path.isdir(temporary) or len(temporary) > 40:
    temporary = "/tmp"  # sockets live in it, whose paths have to be short
directory = tempfile.mkdtemp(prefix="remote-provisioners-", dir=temporary)
archive = os.path.join(directory, "agent.pyz")
with open(archive, "wb") as file:
    file.write(base64.b64decode({archive!r}))
sys.path.insert(0, archive)
from remote_provisioners_agent.agent.node_launcher import main
main(directory, {secret!r}, sys.argv[1:])
"""


@dataclass(frozen=True)
class Container:
    """Where a launcher listens, and what is known of its node."""

    application_id: str
    host: str
    port: int
    secret: str = field(repr=False)
    #: Of the agent.
    directory: str
    python: str
    cwd: str


class ContainerReports:
    """Where launchers report: TLS, and each has to say the secret of its launch."""

    def __init__(self) -> None:
        self._awaited: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._opening = asyncio.Lock()

    async def address(self, wanted: str, towards: str) -> str:
        """HOST:PORT for launchers: `wanted` (host or host:port), else what leads to a URL."""
        host, _, port = wanted.partition(":")
        key = wanted or towards
        async with self._opening:
            if key not in self._servers:
                host = host or _own_address(towards)
                self._servers[key] = await asyncio.start_server(
                    self._serve, host, int(port or 0), ssl=identity().context
                )
        bound = self._servers[key].sockets[0].getsockname()
        return f"{bound[0]}:{bound[1]}"

    def expect(self, secret: str) -> asyncio.Future[dict[str, Any]]:
        future = self._awaited[secret] = asyncio.get_running_loop().create_future()
        return future

    def forget(self, secret: str) -> None:
        self._awaited.pop(secret, None)

    async def close(self) -> None:
        for server in self._servers.values():
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), _REPORT_SECONDS)
            writer.write(json.dumps(self._answer(json.loads(line))).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, TypeError, KeyError, asyncio.TimeoutError) as error:
            log.warning("a launcher's report cannot be read: %r", error)
        finally:
            writer.close()

    def _answer(self, report: dict[str, Any]) -> dict[str, Any]:
        given = str(report["secret"]).encode()
        for secret, future in self._awaited.items():
            if hmac.compare_digest(given, secret.encode()) and not future.done():
                future.set_result(report)
                return {"ok": True}
        log.warning("a launcher reported with a wrong secret; refused")
        return {"error": "not a launcher that is awaited"}


def _own_address(url: str) -> str:
    """The address of this machine that leads to the host of `url`. Raises HostError."""
    host = urlsplit(url).hostname or ""
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise HostError(f"no way to {host}: {error}") from None


@dataclass
class Submission:
    """One application for one kernel.

    `argv` and `env` are those of the program that submits; `tag` is the application's alone.
    """

    manager: ResourceManager
    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    tag: str
    secret: str = field(repr=False)
    said: Callable[[str], None]

    async def run(self) -> Container:
        """Return when the launcher has reported.

        Raises KernelStartError, UnreachableError; the application is killed then, and when this
        is cancelled.
        """
        await self.manager.check()
        listener = await reports()
        report = listener.expect(self.secret)
        with tempfile.TemporaryDirectory(prefix="rp-launch-") as directory:  # 0700
            launcher, output = Path(directory, "launcher.py"), Path(directory, "output")
            await asyncio.to_thread(_write_launcher, launcher, self.secret)
            try:
                process = await self._start(launcher, output)
                try:
                    application = await self._follow(process, output, report)
                except BaseException:
                    await asyncio.shield(self._abandon(process))
                    raise
                await process.wait()  # it has removed what it staged by then
            except OSError as error:
                raise KernelStartError(f"cannot run {self.argv[0]}: {error.strerror}") from None
            finally:
                listener.forget(self.secret)
        return Container(
            application.id if application else "",
            secret=self.secret,
            **{name: report.result()[name] for name in ("host", "port", "directory", "python")},
            cwd=str(report.result()["cwd"]),
        )

    async def _start(self, launcher: Path, output: Path) -> asyncio.subprocess.Process:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            return await asyncio.create_subprocess_exec(
                *self.argv,
                env={**self.env, "RP_LAUNCHER": str(launcher)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)

    async def _follow(
        self,
        process: asyncio.subprocess.Process,
        output: Path,
        report: asyncio.Future[dict[str, Any]],
    ) -> Application | None:
        """The application, when its launcher has reported. Raises KernelStartError."""
        words = ""
        while True:
            application = None
            with contextlib.suppress(HostError):  # busy; spark-submit and the limit will tell
                application = await self.manager.find(self.tag)
            if report.done():
                return application
            if application is not None:
                if application.over:
                    raise KernelStartError(application.end)
                if application.words != words:
                    words = application.words
                    self.said(words)
            elif process.returncode:
                printed = await asyncio.to_thread(output.read_bytes)
                tail = printed[-_TAIL_BYTES:].decode("utf-8", "replace")
                raise KernelStartError(
                    f"the application was not submitted (exit code {process.returncode}); it "
                    f"printed:\n{tail}"
                )
            await asyncio.wait([report], timeout=_POLL_SECONDS)

    async def _abandon(self, process: asyncio.subprocess.Process) -> None:
        """Leave nothing: neither who submits, nor what was submitted."""
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        await kill(self.manager, self.tag, self.env)


def _write_launcher(path: Path, secret: str) -> None:
    archive = base64.b64encode(agent_archive()).decode()
    path.write_text(_LAUNCHER.format(archive=archive, secret=secret), "ascii")


async def kill(manager: ResourceManager, tag: str, env: Mapping[str, str]) -> None:
    """End the application with this tag, if there is one, and see it end.

    `env`: that of spark-submit, whose Hadoop can kill where YARN's web address may not.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _KILL_SECONDS
    try:
        while loop.time() < deadline:
            application = await manager.find(tag)
            if application is None or application.over:
                return
            try:
                await manager.kill(application.id)
            except RemoteProvisionerError as error:
                log.info("%s is killed by Hadoop's client: %s", application.id, error)
                await _kill_by_client(application.id, env)
            await asyncio.sleep(_KILL_POLL_SECONDS)
    except RemoteProvisionerError as error:
        log.warning("application of %s: not killed: %s", tag, error)


async def _kill_by_client(application_id: str, env: Mapping[str, str]) -> None:
    """As `yarn application -kill`, by the classes that every Spark has."""
    program = os.path.join(env.get("SPARK_HOME", ""), "bin", "spark-class")
    if user := env.get("RP_PROXY_USER"):
        env = {**env, "HADOOP_PROXY_USER": user}
    words = ["org.apache.hadoop.yarn.client.cli.ApplicationCLI", "application", "-kill"]
    with contextlib.suppress(OSError):
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            program, *words, application_id, env=env, stdin=quiet, stdout=quiet, stderr=quiet
        )
        await process.wait()


def new_secret() -> str:
    return secrets.token_urlsafe(32)


async def reports() -> ContainerReports:
    """This process's. To be called in the I/O thread, which closes it when it ends."""
    return io_thread().own(ContainerReports)
