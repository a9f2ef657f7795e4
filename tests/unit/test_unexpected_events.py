"""What nobody expects ends one message or one task, and not the connection or the agent."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.errors import AgentError
from remote_provisioners.hosts.agent_channel import AgentChannel
from remote_provisioners.hosts.transport.by_asyncssh import connection as ssh_connection
from remote_provisioners.protocol.agent_events import Listening, Taken
from remote_provisioners.protocol.agent_requests import GetTail
from remote_provisioners.protocol.answers import Tail
from remote_provisioners.protocol.wire import Decoder, encode


class Transport:
    """Collects what is sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent += Decoder().feed(data)

    def close(self) -> None:
        self.closed = True


def test_an_event_that_cannot_be_read_or_handled_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = []

    def on_event(event: Any) -> None:
        if isinstance(event, Taken):
            raise KeyError("nobody expects it")
        told.append(event.kernel_id)

    async def body() -> None:
        channel, transport = AgentChannel("h", on_event), Transport()
        channel.connection_made(transport)  # type: ignore[arg-type]
        asked = asyncio.ensure_future(channel.request(GetTail(kernel_id="k")))
        await asyncio.sleep(0)
        number = transport.sent[0]["id"]
        for message in (
            {"event": "listening"},  # of which kernel?
            {"event": "exited", "kernel_id": "k", "exit_code": "3"},
            {"event": "of a later version", "kernel_id": "k"},
            {"event": Taken.event, "kernel_id": "k"},
            {"event": Listening.event, "kernel_id": "k"},
            {"id": 99, "result": {}},
            {"id": number, "result": {"tail": "the end"}},
        ):
            channel.data_received(encode(message))
        assert (await asked).tail == "the end"
        again = asyncio.ensure_future(channel.request(GetTail(kernel_id="k")))
        await asyncio.sleep(0)
        channel.data_received(encode({"id": transport.sent[1]["id"], "result": {"tail": 5}}))
        with pytest.raises(AgentError, match="the agent's answer to tail cannot be read"):
            await again
        assert not transport.closed

    asyncio.run(body())
    assert told == ["k"]
    assert "ignored an invalid event of the agent" in caplog.text
    assert "nobody expects it" in caplog.text
    assert Tail.read({"tail": ""}).tail == ""


#: An agent whose regular tasks fail, as they do when no descriptor is free.
FAILS = """
import errno, sys
from remote_provisioners.agent import agent, main
from remote_provisioners.agent.kernels.kernel_table import KernelTable

def fails(*_):
    raise OSError(errno.EMFILE, "Too many open files")

async def fails_later(*_):
    fails()

agent.TICK_SECONDS = 0.02
KernelTable.check_leases = KernelTable.on_child = fails
KernelTable.sample = fails_later
main.main(sys.argv[1], int(sys.argv[2]))
"""


def test_regular_tasks_that_fail_do_not_end_the_agent(tmp_path: Path) -> None:
    read, write = os.pipe()
    argv = [sys.executable, "-c", FAILS, str(tmp_path / "aa-1"), str(write)]
    (tmp_path / "aa-1").mkdir(0o700)
    with (tmp_path / "log").open("w") as log:
        agent = subprocess.Popen(argv, pass_fds=[write], stdout=log, stderr=log)
    os.close(write)

    async def body() -> None:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "aa-1" / "agent.sock"))
        decoder = Decoder()

        async def ask(message: dict[str, Any]) -> Any:
            writer.write(encode(message))
            while True:
                for answer in decoder.feed(await reader.read(65536)):
                    if answer.get("id") == message["id"]:
                        return answer

        await ask({"id": 1, "op": "hello", "owner": "a"})
        while (tmp_path / "log").read_text().count("a regular task failed") < 3:
            await asyncio.sleep(0.01)
        while "measuring kernels failed" not in (tmp_path / "log").read_text():
            await asyncio.sleep(0.01)
        # A request without its fields, one that nobody knows, and a good one.
        assert (await ask({"id": 2, "op": "tail"}))["error"]["code"] == "bad-request"
        assert (await ask({"id": 3, "op": "of a later version"}))["error"]["code"] == "bad-request"
        assert (await ask({"id": 4, "op": "load"}))["result"]["cores"] >= 1
        await ask({"id": 5, "op": "leave"})
        writer.close()

    try:
        assert os.read(read, 1) == b"+"
        asyncio.run(asyncio.wait_for(body(), 20))
    finally:
        os.close(read)
        agent.kill()
        agent.wait()


def test_our_libraries_are_quiet_in_other_programs() -> None:
    """papermill and others show all messages of level INFO."""
    assert ssh_connection.asyncssh  # it is imported
    assert logging.getLogger("asyncssh").level == logging.WARNING
