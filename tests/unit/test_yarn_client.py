"""Hadoop's client waits long for a ResourceManager that does not answer. We do not."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.engines.yarn import engine


@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_no_client_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Neither when the time is over, nor when the server ends."""
    monkeypatch.setattr(engine, "_CLIENT_SECONDS", seconds)
    program = tmp_path / "bin" / "spark-class"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    begun: list[asyncio.subprocess.Process] = []
    begin = asyncio.create_subprocess_exec

    async def noted(*words: Any, **how: Any) -> asyncio.subprocess.Process:
        begun.append(await begin(*words, **how))
        return begun[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)

    async def kill() -> None:
        killing = asyncio.ensure_future(
            engine.kill_by_client("application_1_2", {"SPARK_HOME": str(tmp_path)})
        )
        while not begun:
            await asyncio.sleep(0.01)
        if seconds:
            killing.cancel()
        await asyncio.wait([killing], timeout=30)
        assert killing.done()

    asyncio.run(kill())
    assert [process.returncode for process in begun] == [-signal.SIGKILL]
