"""What tells that another login may succeed now."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from remote_provisioners.hosts import keys

POLL_SECONDS = 0.05


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(keys, "_POLL_SECONDS", POLL_SECONDS)
    (tmp_path / ".ssh").mkdir()
    return tmp_path


def test_the_files_of_another_login_are_no_change(home: Path) -> None:
    """A host that has refused a login is not asked again because of another host."""
    other = home / "other-key"
    other.touch()

    async def body() -> None:
        waiting = asyncio.ensure_future(keys.until_changed(30))
        await asyncio.sleep(2 * POLL_SECONDS)
        keys.tried([str(other)])
        await asyncio.sleep(4 * POLL_SECONDS)
        assert not waiting.done()
        while not waiting.done():
            (home / ".ssh" / "id_ed25519").write_bytes(os.urandom(8))
            await asyncio.sleep(POLL_SECONDS)

    asyncio.run(asyncio.wait_for(body(), 10))


def test_hosts_that_refuse_share_the_looks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a ticket has run out: the SSH agent is not asked for each of a thousand hosts."""
    path, asked = str(home / "agent"), 0
    monkeypatch.setenv("SSH_AUTH_SOCK", path)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read(100)
        writer.write(b"\0\0\0\1\5")
        writer.close()

    async def body() -> None:
        async with await asyncio.start_unix_server(answer, path):
            hosts = (keys.until_changed(4 * POLL_SECONDS) for _ in range(100))
            await asyncio.gather(*hosts)

    asyncio.run(asyncio.wait_for(body(), 10))
    assert 0 < asked < 50
