"""The thread that owns hosts and kernels: its end, and forked children."""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
import sys
from typing import Any

import pytest

from remote_provisioners import user
from remote_provisioners.hosts.transport.local import login_environment
from remote_provisioners.hosts.transport.ssh.reading import configuration_files
from remote_provisioners.io_thread import IOThread

CLOSED: list[str] = []


class Older:
    async def close(self) -> None:
        CLOSED.append("older")


class Newer:
    async def close(self) -> None:
        raise RuntimeError("a bug")


def test_an_object_that_cannot_be_closed_keeps_no_other_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    CLOSED.clear()
    thread = IOThread()

    async def own(kind: Any) -> None:
        thread.own(kind)

    for kind in (Older, Newer):
        thread.call_blocking(own(kind), 5)
    thread.close()
    assert CLOSED == ["older"]
    assert caplog.messages == ["Newer could not be closed"]


def test_a_task_that_begins_another_one_when_it_is_cancelled() -> None:
    thread, ended, tasks = IOThread(), [], []

    async def waits(name: str, then: str = "") -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)
            if then:
                tasks.append(asyncio.ensure_future(waits(then)))
                await asyncio.sleep(0)

    thread.begin(waits("first", then="second"))

    async def begun() -> None:
        await asyncio.sleep(0)

    thread.call_blocking(begun(), 5)
    thread.close()
    assert ended == ["first", "second"]


#: Its children use the loop that it has used, as a pool of processes does after a notebook.
FORKS = """
import asyncio, os, signal
from remote_provisioners.io_thread import in_io_thread

loop = asyncio.new_event_loop()

def calls(count):
    for _ in range(count):
        loop.run_until_complete(in_io_thread(asyncio.sleep(0.001)))

calls(1)
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # one that is never woken sleeps until then
        calls(50)
        os._exit(0)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
"""


def test_children_that_use_the_loop_of_their_parent() -> None:
    """None sleeps for ever."""
    program = [sys.executable, "-W", "ignore", "-c", FORKS]
    done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=90)
    assert done.stdout == "[0, 0, 0, 0]\n", done.stderr


def test_a_slow_user_database_is_asked_before_the_loop_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A directory server's answer would keep all kernels waiting."""
    asked_in_loop: list[bool] = []
    entry = pwd.getpwuid(os.getuid())

    def asked(uid: int) -> pwd.struct_passwd:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asked_in_loop.append(False)
        else:
            asked_in_loop.append(True)
        return entry

    async def use() -> str:
        configuration_files()
        return login_environment()["SHELL"]

    monkeypatch.setattr(pwd, "getpwuid", asked)
    monkeypatch.setattr(user, "_entries", {})
    thread = IOThread()
    assert thread.call_blocking(use(), 5.0) == entry.pw_shell
    thread.close()
    assert asked_in_loop == [False]
