"""A start whose agent was killed is tried again by itself, and there is never a second kernel."""

from __future__ import annotations

import time
from typing import Any

import pytest

from remote_provisioners.errors import AgentError
from remote_provisioners.hosts.agent_channel import AgentChannel, ChannelLostError
from remote_provisioners.protocol.agent_requests import Forget
from remote_provisioners.protocol.agent_requests import Start as StartRequest

from ..conftest import SLEEP, InstallSpec, Start, be_client, eventually
from ..rig import Host, Rig

#: Kills the agent once, while it starts a kernel.
KILLS_THE_AGENT = "if mkdir ~/killed 2>/dev/null; then pkill -9 -f agent.pyz; fi"


@pytest.fixture
def host(own_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Host:
    be_client(own_rig, monkeypatch)
    return own_rig.hosts[0]


def kernels_on(host: Host) -> list[int]:
    """Kernels, whichever agent has started them."""
    found = {p.pid: " ".join(p.argv) for p in host.processes()}
    return [pid for pid, line in found.items() if "ipykernel_launcher" in line and "-f" in line]


def kill_agent(host: Host) -> None:
    host.run(["pkill", "-9", "-f", "agent.pyz"])


@pytest.mark.parametrize("connect", ["asyncssh", pytest.param("openssh", marks=pytest.mark.long)])
def test_killed_just_before(
    host: Host, install_spec: InstallSpec, start: Start, connect: str
) -> None:
    name = install_spec(host.target, connect=connect)
    first = start(name)
    kill_agent(host)
    assert start(name).value("1 + 1") == 2
    assert first.value("2 + 2") == 4


@pytest.mark.parametrize("pinned", [True, pytest.param(False, marks=pytest.mark.long)])
def test_killed_just_before_with_another_host(
    host: Host, own_rig: Rig, install_spec: InstallSpec, start: Start, pinned: bool
) -> None:
    """A pinned kernel starts there all the same; any other may start elsewhere."""
    name = install_spec([host.target, own_rig.hosts[1].target])
    env = {"env": {"KERNEL_REMOTE_HOST": host.target}}
    start(name, **env)
    kill_agent(host)
    session = start(name, **(env if pinned else {}))
    assert session.value("1 + 1") == 2
    there = [pid for each in own_rig.hosts[:2] for pid in kernels_on(each)]
    assert len(there) == 2


def test_killed_just_before_a_restart(host: Host, install_spec: InstallSpec, start: Start) -> None:
    session = start(install_spec(host.target))
    kill_agent(host)
    session.manager.restart_kernel(now=True)
    session.client.kernel_info(reply=True, timeout=30)
    assert session.value("1 + 1") == 2
    eventually(lambda: len(kernels_on(host)) == 1)


def test_killed_by_the_start_itself(host: Host, install_spec: InstallSpec, start: Start) -> None:
    """The request has reached the agent."""
    session = start(install_spec(host.target, environment_hook=KILLS_THE_AGENT))
    assert session.value("1 + 1") == 2
    eventually(lambda: len(kernels_on(host)) == 1)


def test_killed_just_before_an_interrupt_and_a_shutdown(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    session = start(install_spec(host.target))
    cell = session.client.execute(SLEEP)
    while session.client.get_iopub_msg(timeout=10)["content"].get("text") != "on\n":
        pass
    kill_agent(host)
    session.manager.interrupt_kernel()
    # The reply may be sent before the client is back. Its output comes in any case.
    while (message := session.client.get_iopub_msg(timeout=20))["msg_type"] != "error":
        pass
    assert message["parent_header"]["msg_id"] == cell
    assert message["content"]["ename"] == "KeyboardInterrupt"
    kill_agent(host)
    session.manager.shutdown_kernel(now=True)
    eventually(lambda: not kernels_on(host))


class CutAtStart:
    """Channels to agents that are lost once: as they carry a Start, or before its answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, arrives: bool) -> None:
        self.starts = 0
        request_of = AgentChannel.request
        cutter = self

        async def request(channel: AgentChannel, request: Any) -> Any:
            if isinstance(request, StartRequest):
                cutter.starts += 1
                if cutter.starts == 1 and not arrives:
                    channel.close()
            answer = await request_of(channel, request)
            if isinstance(request, StartRequest) and cutter.starts == 1:
                channel.close()
                raise ChannelLostError("cut", host="")
            return answer

        monkeypatch.setattr(AgentChannel, "request", request)


@pytest.mark.parametrize("arrives", [True, pytest.param(False, marks=pytest.mark.long)])
def test_the_connection_is_cut(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    install_spec: InstallSpec,
    start: Start,
    arrives: bool,
) -> None:
    """The agent lives, and may have started the kernel."""
    name = install_spec(host.target)
    start(name)
    fault = CutAtStart(monkeypatch, arrives=arrives)
    session = start(name)
    assert fault.starts == 2
    pid = session.value("__import__('os').getpid()")
    eventually(lambda: len(kernels_on(host)) == 2)
    assert pid in kernels_on(host)


class RefusesForget:
    """Agents that cannot end a kernel at that moment, so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.refused = 0
        request_of = AgentChannel.request
        refuser = self

        async def request(channel: AgentChannel, request: Any) -> Any:
            if isinstance(request, Forget) and refuser.refused < times:
                refuser.refused += 1
                raise AgentError("no descriptor is free")
            return await request_of(channel, request)

        monkeypatch.setattr(AgentChannel, "request", request)


def test_a_pending_kill_does_not_end_the_next_kernel_of_that_id(
    host: Host, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    name = install_spec(host.target)
    first = start(name, kernel_id="one-and-the-same")
    there = first.kernel.host
    fault = RefusesForget(monkeypatch, times=2)
    first.manager.shutdown_kernel(now=True)
    assert fault.refused == 2
    assert there.has_pending_kill(first.provisioner.kernel_id)
    second = start(name, kernel_id="one-and-the-same")
    assert second.provisioner.kernel_id == first.provisioner.kernel_id
    assert not there.has_pending_kill(first.provisioner.kernel_id)
    time.sleep(2.5)  # when the first one would be killed again
    assert second.value("1 + 1") == 2


def test_a_request_right_after_it_is_back(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    """Neither the request nor its output is lost, and what the kernel printed meanwhile comes."""
    session = start(install_spec(host.target))
    session.run("import threading, time")
    outputs: list[str] = []
    for number in range(3):
        kill_agent(host)
        eventually(lambda: not session.kernel.life.serving)
        eventually(lambda: session.kernel.life.serving, 20)
        session.client.execute_interactive(
            f"print({number})",
            timeout=20,
            output_hook=lambda message: outputs.append(message["content"].get("text", "")),
        )
    assert [text for text in outputs if text] == ["0\n", "1\n", "2\n"]


def test_a_request_while_there_is_no_agent(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    """It runs as soon as the next agent is there."""
    session = start(install_spec(host.target))
    for number in range(3):
        kill_agent(host)
        eventually(lambda: not session.kernel.life.serving)
        assert session.value(f"2 ** {number}") == 2**number


def test_an_answer_to_a_question_while_there_is_no_agent(
    host: Host, install_spec: InstallSpec, start: Start
) -> None:
    """The user has typed it once, and no page asks again."""
    session = start(install_spec(host.target))
    cell = session.client.execute("print(input('name? '))", allow_stdin=True)
    session.client.get_stdin_msg(timeout=20)
    kill_agent(host)
    eventually(lambda: not session.kernel.life.serving)
    session.client.input("Ada")
    printed = ""
    while "Ada" not in printed:
        message = session.client.get_iopub_msg(timeout=20)
        if message["parent_header"].get("msg_id") == cell:
            printed += message["content"].get("text", "")
