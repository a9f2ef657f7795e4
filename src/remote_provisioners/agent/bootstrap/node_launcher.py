"""Starts an agent in a container on a cluster node, and lets the server reach it without a login.

The server writes a file for each launch (engines/submission.py), which runs this with the
arguments of the kernelspec. Every connection is TLS 1.3, whichever side opens it. The server
proves that it holds the key whose fingerprint is in our argv; we prove that we know the secret of
the launch. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import sys
from typing import Any, List, Optional, Set, Tuple

from ...protocol.keep_alive import keep_alive

#: How long the other side may take to answer.
_SECONDS = 30.0
_PIECE = 256 * 1024

Stream = Tuple[asyncio.StreamReader, asyncio.StreamWriter]


def main(directory: str, secret: str, argv: List[str]) -> None:
    """Serve until the agent ends. `directory` is new and ours, and contains the archive."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel-id", required=True)
    parser.add_argument("--response-address", required=True, help="HOST:PORT of the server")
    parser.add_argument("--public-key", required=True, help="its certificate's SHA-256, in hex")
    arguments, _ = parser.parse_known_args(argv)
    try:
        asyncio.run(_Launcher(directory, secret, arguments).run())
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _Launcher:
    def __init__(self, directory: str, secret: str, arguments: Any) -> None:
        self._directory = os.path.join(directory, "agent")
        self._archive = os.path.join(directory, "agent.pyz")
        self._secret = secret
        self._arguments = arguments
        self._agent: Optional[asyncio.subprocess.Process] = None
        self._tasks: Set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGHUP):  # the container is to end
            loop.add_signal_handler(signum, self._end)
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        if stat.S_ISFIFO(os.fstat(0).st_mode):
            loop.add_reader(0, self._look_at_stdin)
        agent = await self._start_agent()
        try:
            listener = await self._report()
        except BaseException:
            self._end()
            await agent.wait()
            raise
        self._keep(self._accept(listener))
        await agent.wait()
        for task in self._tasks:
            task.cancel()
        listener.close()

    async def _start_agent(self) -> asyncio.subprocess.Process:
        os.mkdir(self._directory, 0o700)
        read_end, write_end = os.pipe()
        words = [sys.executable, "-I", "-S", self._archive, self._directory, str(write_end)]
        self._agent = await asyncio.create_subprocess_exec(
            *words, pass_fds=[write_end], stdin=asyncio.subprocess.DEVNULL
        )
        os.close(write_end)
        # A byte when it listens, end of file when it failed; its error text is in our output.
        started = await asyncio.get_running_loop().run_in_executor(None, os.read, read_end, 1)
        os.close(read_end)
        if not started:
            sys.exit("the agent did not start")
        return self._agent

    def _end(self) -> None:
        if self._agent is not None and self._agent.returncode is None:
            self._agent.terminate()  # it ends its kernels first

    def _look_at_stdin(self) -> None:
        """The driver's JVM holds the other end of stdin. When the JVM is gone, end."""
        if not os.read(0, 4096):
            asyncio.get_running_loop().remove_reader(0)
            self._end()

    async def _report(self) -> socket.socket:
        """Listen, and tell the server where: only on the address from which we reach it."""
        host, _, port = self._arguments.response_address.rpartition(":")
        here = socket.create_connection((host.strip("[]"), int(port)), _SECONDS)
        listener = socket.socket(here.family, socket.SOCK_STREAM)
        listener.bind((here.getsockname()[0], 0))
        listener.listen(64)
        listener.setblocking(False)
        reader, writer = await self._secured(here)
        place = {"host": listener.getsockname()[0], "port": listener.getsockname()[1]}
        said = {"kernel_id": self._arguments.kernel_id, "secret": self._secret, **place}
        said.update(python=sys.executable, directory=self._directory, cwd=os.getcwd())
        writer.write(json.dumps(said).encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(reader.readline(), _SECONDS) or b"{}")
        writer.close()
        if "error" in answer or not answer:
            sys.exit("the server does not want us: {}".format(answer.get("error", "no answer")))
        return listener

    async def _secured(self, connection: socket.socket) -> Stream:
        """Speak TLS with the server, whichever side connected. Raises OSError for anybody else."""
        connection.setblocking(False)
        keep_alive(connection)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # we check the fingerprint below
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        reader, writer = await asyncio.open_connection(
            sock=connection, ssl=context, server_hostname="remote-provisioners"
        )
        shown = writer.get_extra_info("ssl_object").getpeercert(True) or b""
        if not hmac.compare_digest(hashlib.sha256(shown).hexdigest(), self._arguments.public_key):
            writer.transport.abort()
            raise OSError("not the server that has launched us")
        return reader, writer

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            self._keep(self._admit(connection))

    async def _admit(self, connection: socket.socket) -> None:
        """Prove that we know the secret, then join the server to the agent's socket it names."""
        try:
            near = await asyncio.wait_for(self._secured(connection), _SECONDS)
        except (OSError, asyncio.TimeoutError):
            connection.close()
            return
        near[1].write(self._secret.encode() + b"\n")
        try:
            path = (await asyncio.wait_for(near[0].readline(), _SECONDS)).decode().strip()
            try:
                if os.path.dirname(path) != self._directory:
                    raise PermissionError(path)
                far = await asyncio.open_unix_connection(path)
            except OSError:
                near[1].write(b"-\n")
                return
            near[1].write(b"+\n")
            copies = [asyncio.ensure_future(_copy(*pair)) for pair in _crossed(near, far)]
            try:
                await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for copy in copies:
                    copy.cancel()
                far[1].close()
        except (OSError, asyncio.TimeoutError, ValueError):
            pass
        finally:
            near[1].close()

    def _keep(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _crossed(near: Stream, far: Stream) -> Tuple[Any, Any]:
    return (near[0], far[1]), (far[0], near[1])


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            data = await reader.read(_PIECE)
            if not data:
                return
            writer.write(data)
            await writer.drain()
    except (OSError, ssl.SSLError):
        pass
