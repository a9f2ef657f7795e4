"""What a server waits for on its way to an agent, and for how long."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from remote_provisioners.errors import UnreachableError
from remote_provisioners.hosts import agent_finder, deploy_agent
from remote_provisioners.hosts.agent_finder import AgentFinder
from remote_provisioners.hosts.transport.by_asyncssh import keys
from remote_provisioners.hosts.transport.by_asyncssh.proxy_command import ProxyCommand
from remote_provisioners.hosts.transport.local import LocalTransport
from remote_provisioners.hosts.transport.ssh.without_openssh import read_by_asyncssh
from remote_provisioners.placement.host_address import HostAddress


@pytest.fixture
def silent() -> Any:
    """The socket of a process that is stopped."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name, socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(f"{name}/agent.sock")
        stopped.listen()
        yield Path(name, "agent.sock")


def test_a_stopped_agent(silent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_finder, "_HELLO_SECONDS", 0.2)

    async def main() -> None:
        finder = AgentFinder(HostAddress("localhost"), "owner", str(silent.parent))
        with pytest.raises(UnreachableError, match="agent has not answered for 0 s: it is stopped"):
            await asyncio.wait_for(finder.reach(LocalTransport(), print), 5)

    asyncio.run(main())


def test_a_host_that_hangs_before_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/tmp hangs after the interpreter has answered."""
    monkeypatch.setattr(deploy_agent, "_FIND_SECONDS", 0.2)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)

    async def main() -> None:
        with pytest.raises(UnreachableError, match="cannot find or start its agent within 0 s"):
            await asyncio.wait_for(
                deploy_agent.find_agent(LocalTransport(), [str(python)], "host1"), 5
            )

    asyncio.run(main())


def test_an_ssh_agent_that_does_not_answer(
    silent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login goes on with the keys in files, as with OpenSSH."""
    monkeypatch.setattr(keys, "_AGENT_SECONDS", 0.2)
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key")
    without = read_by_asyncssh(HostAddress("host1"))
    files = (str(tmp_path / "key"),)
    configuration = replace(without, identity_files=files, agent=str(silent))

    async def main() -> None:
        async with keys.usable_keys(configuration) as found:
            assert [pair.public_data for pair in found] == [key.public_data]

    asyncio.run(asyncio.wait_for(main(), 5))


def test_a_proxy_command_without_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/nowhere/sh")

    async def main() -> None:
        proxy = ProxyCommand("nc host1 22")
        with pytest.raises(FileNotFoundError, match="/nowhere/sh"):
            await proxy.start()
        assert proxy.said() == ""
        proxy.end()
        await proxy.ended()

    asyncio.run(main())
