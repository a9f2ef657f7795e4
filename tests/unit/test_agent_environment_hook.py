"""The environment hook: what it gave is kept, how it failed is not."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from pathlib import Path

import pytest

from remote_provisioners.agent.errors import RefusedError
from remote_provisioners.agent.kernels.environment_hook import Environments


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_a_hook_that_failed_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async def body() -> None:
        environments = Environments(str(tmp_path))
        hook = f"echo x >> {tmp_path}/runs; export HOOKED=1"
        with monkeypatch.context() as fault:

            def fails(*_: object, **__: object) -> None:
                raise OSError(number, os.strerror(number))

            fault.setattr(tempfile, "mkstemp", fails)
            for _ in range(2):
                with pytest.raises(RefusedError, match=os.strerror(number)) as raised:
                    await environments.after(hook)
                assert raised.value.code == "hook-failed"
        found = await asyncio.gather(*(environments.after(hook) for _ in range(3)))
        assert [environ["HOOKED"] for environ in found] == ["1"] * 3
        assert (tmp_path / "runs").read_text() == "x\n"

    asyncio.run(body())


def test_who_gives_up_leaves_the_hook_to_the_others(tmp_path: Path) -> None:
    async def body() -> None:
        environments = Environments(str(tmp_path))
        hook = f"touch {tmp_path}/runs; sleep 0.2; export HOOKED=1"
        one = asyncio.ensure_future(environments.after(hook))
        while not (tmp_path / "runs").exists():
            await asyncio.sleep(0.01)
        two = asyncio.ensure_future(environments.after(hook))
        one.cancel()
        assert (await two)["HOOKED"] == "1"

    asyncio.run(body())


def hook_error(tmp_path: Path, hook: str) -> str:
    async def body() -> str:
        with pytest.raises(RefusedError) as raised:
            await Environments(str(tmp_path)).after(hook)
        return str(raised.value)

    return asyncio.run(body())


def test_a_hook_that_ends_the_shell(tmp_path: Path) -> None:
    assert "a command in it ended its shell, such as `exit`" in hook_error(tmp_path, "exit 0")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_environment_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> tuple[int, str]:
        path = tmp_path / "hook-full"
        path.symlink_to("/dev/full")
        return os.open(path, os.O_WRONLY), str(path)

    monkeypatch.setattr(tempfile, "mkstemp", full)
    said = hook_error(tmp_path, "export A=1")
    assert "cannot write the environment to" in said
    assert "No space left on device" in said
