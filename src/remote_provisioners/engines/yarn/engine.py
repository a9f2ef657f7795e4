"""YARN as an engine: spark-submit sends a launcher to a node, YARN's REST API follows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...agent.kernels.environment import resolve_command, substitute
from ...errors import HostError, KernelStartError, RemoteProvisionerError
from ...options.launch_request import LaunchRequest
from ..base import Engine, Launch, Node, Progress
from ..certificate import identity
from ..launcher import launcher_source
from ..node_reports import DialledNode, node_reports
from .resource_manager import Application, ResourceManager

log = logging.getLogger(__name__)

#: How long a killed application may take to end, and how often to check.
_KILL_SECONDS = 10.0
_KILL_POLL_SECONDS = 0.2
#: How long Hadoop's client may take; its JVM alone takes seconds.
_CLIENT_SECONDS = 30.0
#: The last output of spark-submit, shown when it fails.
_TAIL_BYTES = 3000
_OUTPUT = "output"
#: The program and arguments for the container (docs/spark.md).
_KERNEL = ("python", "{resource_dir}/scripts/cluster.py", "{connection_file}")


class YarnEngine(Engine):
    """YARN for one kernelspec. `environ` is the environment of the submitting program."""

    name = "YARN"
    node_type = DialledNode

    def __init__(
        self,
        manager: ResourceManager,
        environ: Mapping[str, str],
        *,
        resource_dir: str = "",
        language: str = "",
        response_address: str = "",
    ) -> None:
        self._manager = manager
        self._environ = environ
        self._resource_dir = resource_dir
        self._language = language
        self._response_address = response_address
        self._submitter: _Submitter | None = None
        #: YARN's last description.
        self._application: Application | None = None

    async def check(self) -> None:
        await self._manager.check()

    async def submit(self, launch: Launch) -> asyncio.Future[Node]:
        listener = await node_reports()
        request = launch.request
        address = await listener.address(self._response_address, self._manager.endpoints[0])
        values = {
            "kernel_id": request.kernel_id,
            "resource_dir": self._resource_dir,
            "response_address": address,
            "public_key": identity().fingerprint,
            "port_range": "{}..{}".format(*request.port_range),
        }
        argv = [substitute(word, values) for word in request.argv]
        environ = {**self._environ, "RP_LAUNCH_TAG": launch.tag}
        argv = resolve_command(argv, sys.executable, environ)
        self._submitter = await _Submitter.start(argv, environ, launch)
        report = listener.expect(launch.secret)
        report.add_done_callback(lambda _: listener.forget(launch.secret))
        return asyncio.ensure_future(self._submitter.arrive(report, launch.secret))

    async def follow(self, tag: str) -> Progress | None:
        application = self._application = await self._manager.find(tag)
        if application is not None:
            return Progress(application.id, application.words, application.over)
        if self._submitter is not None and self._submitter.process.returncode:
            return Progress("", over=True)
        return None

    async def cancel(self, tag: str) -> None:
        """Kill the application with this tag, if there is one, and wait for its end."""
        if self._submitter is not None:
            await self._submitter.close()
        await asyncio.to_thread(_remove, _files_of(tag))  # a killed server has left them
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _KILL_SECONDS
        while True:
            application = await self._manager.find(tag)
            if application is None or application.over:
                return
            if loop.time() > deadline:
                raise HostError(f"YARN has not ended {application.id} within {_KILL_SECONDS:g} s")
            try:
                await self._manager.kill(application.id)
            except RemoteProvisionerError as error:
                log.info("killing %s with Hadoop's client: %s", application.id, error)
                await kill_by_client(application.id, self._environ)
            await asyncio.sleep(_KILL_POLL_SECONDS)

    async def diagnose(self, tag: str) -> str:
        application = self._application or await self._manager.find(tag)
        if application is not None:
            return application.end
        if self._submitter is None:
            return "YARN does not know the application any more"
        code, printed = self._submitter.process.returncode, await self._submitter.last_words()
        return f"the application was not submitted (exit code {code}); it printed:\n{printed}"

    def kernel_request(self, request: LaunchRequest, node: Node) -> LaunchRequest:
        """The request for the Spark driver in the container."""
        python = self._language.lower() == "python"
        return replace(
            super().kernel_request(request, node),
            argv=(*_KERNEL, *request.argv[2:]),
            env={},
            transport="ipc" if python and not request.port_range[1] else "tcp",
            reports_endpoints=False,
        )


class _Submitter:
    """The submitting program and its files on this machine."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        directory: Path,
    ) -> None:
        self.process = process
        self._directory = directory

    @classmethod
    async def start(cls, argv: list[str], environ: Mapping[str, str], launch: Launch) -> _Submitter:
        """Raises KernelStartError."""
        directory = _files_of(launch.tag)
        launcher, output = directory / "launcher.py", directory / _OUTPUT
        try:
            await asyncio.to_thread(_write, launcher, launch.secret)
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                process = await asyncio.create_subprocess_exec(
                    *argv,
                    env={**environ, "RP_LAUNCHER": str(launcher)},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=descriptor,
                    stderr=descriptor,
                    start_new_session=True,
                )
            finally:
                os.close(descriptor)
        except BaseException as error:
            _remove(directory)
            if isinstance(error, OSError):
                raise KernelStartError(f"cannot run {argv[0]}: {error.strerror}") from None
            raise
        return cls(process, directory)

    async def arrive(self, reported: asyncio.Future[dict[str, Any]], secret: str) -> Node:
        """The node, when the launcher has reported and the submitter has cleaned up and ended."""
        try:
            report = await reported
            await self.process.wait()
        finally:
            await self.close()
        return DialledNode(
            host=str(report["host"]),
            port=int(report["port"]),
            secret=secret,
            directory=str(report["directory"]),
            python=str(report["python"]),
            cwd=str(report["cwd"]),
        )

    async def close(self) -> None:
        """End the process and remove the files."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        await asyncio.to_thread(_remove, self._directory)

    async def last_words(self) -> str:
        """The last lines of its output."""
        printed = await asyncio.to_thread((self._directory / _OUTPUT).read_bytes)
        return printed[-_TAIL_BYTES:].decode("utf-8", "replace")


def _files_of(tag: str) -> Path:
    """The directory with the files of a submission on this machine."""
    return Path(tempfile.gettempdir(), f"rp-launch-{tag}")


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def _write(path: Path, secret: str) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_text(launcher_source(secret), "ascii")


async def kill_by_client(application_id: str, env: Mapping[str, str]) -> None:
    """Do what `yarn application -kill` does, with classes that every Spark has.

    For a YARN whose web address lets nobody kill. `env`: that of spark-submit.
    """
    program = os.path.join(env.get("SPARK_HOME", ""), "bin", "spark-class")
    if user := env.get("RP_PROXY_USER"):
        env = {**env, "HADOOP_PROXY_USER": user}
    words = ["org.apache.hadoop.yarn.client.cli.ApplicationCLI", "application", "-kill"]
    quiet: Any = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            program, *words, application_id, env=env, stdin=quiet, stdout=quiet, stderr=quiet
        )
    except OSError:
        return
    # It tries for a quarter of an hour to reach a ResourceManager that does not answer.
    try:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), _CLIENT_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
