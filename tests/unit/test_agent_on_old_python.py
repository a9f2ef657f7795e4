"""The agent runs on any Python from 3.8: its sources parse as 3.8, and it serves on each found."""

from __future__ import annotations

import ast
import asyncio
import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import remote_provisioners
from remote_provisioners.errors import AgentError
from remote_provisioners.hosts.agent_channel import AgentChannel
from remote_provisioners.hosts.deploy_agent import find_or_start_agent
from remote_provisioners.hosts.transport.local import LocalTransport
from remote_provisioners.io_thread import io_thread
from remote_provisioners.protocol.agent_events import Exited
from remote_provisioners.protocol.agent_requests import (
    Activate,
    FindEnvironments,
    GetKernelspecFiles,
    Hello,
    Leave,
    Start,
)
from remote_provisioners.protocol.answers import Welcome

PACKAGE = Path(remote_provisioners.__file__).parent
SOURCES = sorted(path for name in ("agent", "protocol") for path in (PACKAGE / name).rglob("*.py"))


def interpreters() -> dict[str, str]:
    """A Python of each minor version that this machine has."""
    found: dict[str, str] = {}
    candidates = [shutil.which(f"python3.{minor}") for minor in range(6, 20)]
    candidates += glob.glob(os.path.expanduser("~/.pyenv/versions/*/bin/python"))
    for path in [sys.executable, *candidates]:
        if path is not None:
            asked = subprocess.run(
                [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=False,
            )
            if asked.returncode == 0:
                found.setdefault(asked.stdout.strip(), path)
    return found


FOUND = interpreters()


def supported(version: str) -> bool:
    return tuple(map(int, version.split("."))) >= (3, 8)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_parses_as_3_8(source: Path) -> None:
    ast.parse(source.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_the_standard_library_only(source: Path) -> None:
    for node in ast.walk(ast.parse(source.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [str(node.module)]
        elif isinstance(node, ast.ImportFrom):  # no further up than the packages that travel
            assert node.level <= len(source.relative_to(PACKAGE).parts)
        assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize("version", [v for v in FOUND if supported(v)])
def test_serves(version: str) -> None:
    events: list[Any] = []

    async def body() -> Welcome:
        transport = LocalTransport()
        path = (await find_or_start_agent(transport, FOUND[version], "here")).socket
        channel = AgentChannel("here", events.append)
        await transport.open(path, lambda: channel)
        hello = await channel.request(Hello(owner="test"))
        start = Start(
            kernel_id="k",
            argv=["python", "-c", "import sys; print('said'); sys.exit(3)"],
            env={"A": "${HOME:-x}"},
            hook="export HOOKED=1",
            python=sys.executable,
            connection={"transport": "tcp"},
        )
        await channel.request(start)
        while not [event for event in events if isinstance(event, Exited)]:
            await asyncio.sleep(0.01)
        environments = await channel.request(FindEnvironments(directories=[sys.prefix]))
        assert sys.prefix in {found.path for found in environments.interpreters}
        venv = Activate(kind="venv", path=sys.prefix, program=f"{sys.prefix}/bin/python")
        assert (await channel.request(venv)).env["VIRTUAL_ENV"] == sys.prefix
        assert (
            "kernel.json"
            not in (
                await channel.request(GetKernelspecFiles(path=str(PACKAGE / "kernelspecs")))
            ).files
        )
        await channel.request(Leave())
        channel.close()
        await channel.closed
        return hello

    hello = io_thread().call_blocking(body(), 30)
    assert hello.python.startswith(version + ".")
    (exited,) = [event for event in events if isinstance(event, Exited)]
    assert (exited.exit_code, exited.tail) == (3, "said")
    assert hello.load.cores >= 1


@pytest.mark.parametrize("version", [v for v in FOUND if not supported(v)])
def test_older_is_refused_with_the_reason(version: str) -> None:
    async def body() -> None:
        with pytest.raises(AgentError, match=r"is too old:\s+the agent needs Python 3\.8 or later"):
            await find_or_start_agent(LocalTransport(), FOUND[version], "here")

    io_thread().call_blocking(body(), 30)
