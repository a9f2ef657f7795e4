"""Throwaway SSH hosts: ``python -m remote_provisioners.cli.demo.hosts DIRECTORY NAME...``

All hosts are this machine and this user. Each has its own host name, home and TMPDIR (so also its
own agent) below DIRECTORY. They listen on loopback and accept a single key, which is created here.
DIRECTORY/home/.ssh has the client's configuration, key and known hosts. Prints a line of JSON when
they listen. When stdin closes, the hosts, everything on them and DIRECTORY are removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
from pathlib import Path

import asyncssh

from ...user import user_name
from .agents import end_agents

_ADDRESS = "127.0.0.1"
_KEY_TYPE = "ssh-ed25519"
#: Variables that a login sets. The hosts get no others of our environment.
_LOGIN_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
_READ_SIZE = 65536
_COMMAND_SECONDS = 3.0


class _Server(asyncssh.SSHServer):
    """A connection. Like sshd by default, it allows forwarding of ports and sockets."""

    _connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection = None

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> bool:
        return True

    def server_requested(self, listen_host: str, listen_port: int) -> bool:
        return True

    def unix_connection_requested(self, dest_path: str) -> bool:
        return True

    def unix_server_requested(self, listen_path: str) -> bool:
        return True


class DemoHost:
    """One host."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.port = 0
        self.key = asyncssh.generate_private_key(_KEY_TYPE)
        self._directory = directory
        self._home = directory / "home"
        self._home.mkdir(0o700, parents=True)
        self._servers: list[_Server] = []
        self._running: set[asyncio.subprocess.Process] = set()
        self._commands: set[asyncio.Task[None]] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def listen(self, authorized_keys: Path) -> None:
        """Accept connections with one of these keys on a free port."""
        self._acceptor = await asyncssh.create_server(
            self._server,
            _ADDRESS,
            0,
            server_host_keys=[self.key],
            authorized_client_keys=str(authorized_keys),
            process_factory=self._run,
            encoding=None,
            line_editor=False,
        )
        self.port = self._acceptor.get_port()

    async def end(self) -> None:
        """Close all connections and end everything that runs here."""
        if self._acceptor is not None:
            self._acceptor.close()
        for server in self._servers:
            server.abort()
        # Let a command finish that is starting an agent, so that the agent can be found and ended.
        if self._commands:
            await asyncio.wait(self._commands, timeout=_COMMAND_SECONDS)
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await asyncio.to_thread(end_agents, self._directory)

    def _server(self) -> _Server:
        self._servers.append(_Server())
        return self._servers[-1]

    async def _run(self, session: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run a command in a separate task, which the end of its connection does not cancel."""
        task = asyncio.ensure_future(self._run_command(session))
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)
        await asyncio.shield(task)

    async def _run_command(self, session: asyncssh.SSHServerProcess[bytes]) -> None:
        """Run a client's command in a shell as sshd does. Without a command, run the shell."""
        command = ("-c", session.command) if session.command else ()
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            *command,
            cwd=self._home,
            env=self._environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._running.add(process)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        feeding = asyncio.ensure_future(_feed(session.stdin, process.stdin))
        try:
            await asyncio.gather(
                _drain(process.stdout, session.stdout), _drain(process.stderr, session.stderr)
            )
            code = await process.wait()
        finally:
            self._running.discard(process)
            feeding.cancel()
        with contextlib.suppress(OSError):  # the client is gone
            if code < 0:
                session.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
            else:
                session.exit(code)

    def _environment(self) -> dict[str, str]:
        user = user_name()
        return {
            **{name: os.environ[name] for name in _LOGIN_VARIABLES if name in os.environ},
            "HOME": str(self._home),
            "TMPDIR": str(self._directory),
            "HOSTNAME": self.name,
            "USER": user,
            "LOGNAME": user,
            "SHELL": "/bin/sh",
        }


async def _feed(source: asyncssh.SSHReader[bytes], target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):  # one of the two ends has gone
        while data := await source.read(_READ_SIZE):
            target.write(data)
            await target.drain()
    target.close()


async def _drain(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await source.read(_READ_SIZE):
            target.write(data)
            await target.drain()


def _write_client(directory: Path) -> Path:
    """Create the client's key. Returns the file of keys that the hosts accept."""
    directory.mkdir(0o700, parents=True)
    key = asyncssh.generate_private_key(_KEY_TYPE)
    key.write_private_key(str(directory / "id_demo"))
    (directory / "id_demo").chmod(0o600)
    key.write_public_key(str(directory / "id_demo.pub"))
    return directory / "id_demo.pub"


def _introduce(directory: Path, hosts: list[DemoHost]) -> None:
    """Write the client's configuration: aliases and host keys."""
    config, known = [], []
    for host in hosts:
        config.append(
            f"Host {host.name}\n  HostName {_ADDRESS}\n  Port {host.port}\n"
            f"  IdentityFile {directory}/id_demo\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {directory}/known_hosts\n"
        )
        public = host.key.export_public_key().decode("ascii").strip()
        known.append(f"[{_ADDRESS}]:{host.port} {public}\n")
    (directory / "config").write_text("".join(config), "ascii")
    (directory / "known_hosts").write_text("".join(known), "ascii")


async def _serve(directory: Path, names: list[str]) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(signum, over.set)

    def stdin_readable() -> None:
        if not os.read(0, _READ_SIZE):
            over.set()

    loop.add_reader(0, stdin_readable)
    hosts: list[DemoHost] = []
    try:
        client = directory / "home" / ".ssh"
        authorized_keys = _write_client(client)
        for number, name in enumerate(names):
            # One letter, because paths of unix sockets are limited to some 100 characters.
            hosts.append(DemoHost(name, directory / chr(ord("a") + number)))
            await hosts[-1].listen(authorized_keys)
        _introduce(client, hosts)
        print(json.dumps({host.name: host.port for host in hosts}), flush=True)
        await over.wait()
    finally:
        loop.remove_reader(0)
        await asyncio.gather(*(host.end() for host in hosts))
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    # It would warn of clients that write to a kernel that has just ended.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2:]))
