"""``jupyter remote hosts``: what it says of hosts, for how long it waits, what it leaves."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..conftest import InstallSpec, Start, be_client
from ..rig import Rig

COMMAND = [sys.executable, "-m", "remote_provisioners.cli.app", "hosts"]
REFUSING = "127.0.0.1:1"
SECONDS = 60


def hosts(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def seen(*words: str, **environ: str) -> list[dict[str, Any]]:
    done = hosts("--json", *words, **environ)
    assert done.stderr == ""
    found: list[dict[str, Any]] = json.loads(done.stdout)["hosts"]
    assert done.returncode == (0 if all(host["state"] == "up" for host in found) else 1)
    return found


@contextmanager
def watching(*words: str) -> Iterator[subprocess.Popen[str]]:
    """The command with --watch, which must end by Ctrl-C."""
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(SECONDS)


def rounds(process: subprocess.Popen[str]) -> Iterator[list[dict[str, Any]]]:
    """What it prints with --json."""
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)["hosts"]


@pytest.fixture
def no_gpu_files(rig: Rig) -> Iterator[None]:
    """Which GPUs are taken is told by locks on files that stay: they are every user's."""
    yield
    for host in rig.hosts:
        host.run(["sh", "-c", "rm -f /tmp/remote-provisioners-gpu-*.lock"])


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line)


# -- the table ------------------------------------------------------------------------------


def test_hosts_that_fail_do_not_hold_up_the_others(
    own_rig: Rig, monkeypatch: pytest.MonkeyPatch, install_spec: InstallSpec, start: Start
) -> None:
    be_client(own_rig, monkeypatch)
    busy, idle, silent = own_rig.hosts
    session = start(install_spec([busy.target]))
    silent.drop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepting = f"127.0.0.1:{server.getsockname()[1]}"
        done = hosts(busy.target, accepting, silent.target, REFUSING, "a b", idle.target)
    silent.heal()
    assert done.stderr == ""
    assert done.returncode == 1
    header, *lines = done.stdout.splitlines()
    assert header.startswith("HOST")
    rows = {cells(line)[0]: cells(line) for line in lines}
    assert {*rows} == {busy.target, accepting, silent.target, REFUSING, "a b", idle.target}
    assert {*[*rows][-2:]} == {accepting, silent.target}  # each as it answers
    for name, kernels in ((busy.target, "1 of 1"), (idle.target, "0 of 0")):
        _, state, since, count, load, memory, gpus, agent, python, runs, connected = rows[name]
        assert (state, count, gpus) == ("up", kernels, "-")
        assert re.fullmatch(r"3\.\d+\.\d+", python)
        assert re.fullmatch(r"\d+\.\d\d of \d+", load)
        assert re.fullmatch(r"\d+\.\d of \d+\.\d GiB", memory)
        assert re.fullmatch(r"[0-9a-f]{8}", agent)
        assert re.fullmatch(r"\d+ ms", connected)
        assert all(re.fullmatch(r"\d\d:\d\d:\d\d|\d{4}-.*", text) for text in (since, runs))
    assert rows[silent.target][1] == rows[accepting][1] == rows[REFUSING][1] == "down"
    assert rows[silent.target][-1].startswith("no answer within 5 s")
    assert rows[accepting][-1].startswith("no answer within")
    assert rows[REFUSING][-1] == "port 1 refuses connections: is sshd running there?"
    assert rows["a b"][1] == "misconfigured"
    assert session.value("6 * 7") == 42


def test_a_row_is_printed_as_its_host_answers_and_fits_the_terminal(rig: Rig, home: Path) -> None:
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 24, 50, 0, 0))
    ours_only = ("NO_COLOR", "COLUMNS")
    environ = {name: value for name, value in os.environ.items() if name not in ours_only}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        names = [f"127.0.0.1:{silent.getsockname()[1]}", rig.hosts[0].target]
        process = subprocess.Popen(
            [*COMMAND, *names], stdout=its, stderr=its, env={**environ, "TERM": "xterm"}
        )
        os.close(its)
        printed = b""
        while not re.search(rb"\n.*\n.*1 of 2 hosts have answered. Waiting", printed, re.DOTALL):
            printed += os.read(ours, 4096)
        assert process.poll() is None  # the first host says nothing
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
    os.close(ours)
    # What it waits for was written over.
    header, row = (
        line.strip("\r").rpartition("\r")[2] for line in printed.decode().split("\n")[:2]
    )
    assert header.startswith("\x1b[1mHOST\x1b[0m")
    assert f"{names[1]}  " in row
    assert "\x1b[32mup\x1b[0m" in row
    plain = [re.sub(r"\x1b\[\d+m", "", line) for line in (header, row)]
    assert max(map(len, plain)) <= 50, plain


def test_a_host_that_does_not_let_us_in_is_unusable(rig: Rig, home: Path) -> None:
    known = home / ".ssh/known_hosts"
    kept = known.read_text()
    known.unlink()
    try:
        (host,) = seen(rig.hosts[0].target)
    finally:
        known.write_text(kept)
    assert host["state"] == "unusable"
    assert host["error"].startswith("the host key is unknown")
    assert host["agent"] is host["load"] is host["connecting"] is None


# -- as JSON --------------------------------------------------------------------------------


def test_all_that_is_configured_as_json(
    rig: Rig, home: Path, no_gpu_files: None, install_spec: InstallSpec, start: Start
) -> None:
    one, two = (host.target for host in rig.hosts)
    first = install_spec([{"host": one, "gpus": 2}, two], name="first")
    second = install_spec([one], name="second")
    session = start(first, env={**os.environ, "KERNEL_REMOTE_HOST": one, "KERNEL_GPUS": "1"})
    busy, idle = seen()
    assert [host["host"] for host in (busy, idle)] == [one, two]
    assert [host["kernelspecs"] for host in (busy, idle)] == [[first, second], [first]]
    (kernel,) = busy["kernels"]
    assert kernel["kernel_id"] == session.manager.kernel_id
    assert kernel["pid"] == session.value("__import__('os').getpid()")
    assert kernel["running"]
    assert kernel["owned"]
    assert kernel["gpus"] == ["0"]
    assert busy["gpus"] == {"configured": ["0", "1"], "given": ["0"]}
    assert (busy["load"]["mine"], busy["load"]["kernels"]) == (1, 1)
    # The host's own python3, whatever the kernelspecs' one.
    assert tuple(map(int, busy["agent"]["python"].split("."))) >= (3, 8)
    assert busy["agent"]["since"] <= idle["agent"]["since"] <= time.time() + 1
    assert 0 < idle["connecting"] < 6
    assert idle["kernels"] == []
    assert session.manager.session.key.decode() not in json.dumps(busy)


def test_the_hosts_of_the_environment(rig: Rig, home: Path) -> None:
    names = [host.target for host in rig.hosts]
    assert [host["host"] for host in seen(RP_REMOTE_HOSTS=",".join(names))] == names


def test_one_host_written_twice_is_one_line(
    rig: Rig, home: Path, install_spec: InstallSpec
) -> None:
    name = rig.hosts[0].target
    install_spec([name], name="one", python="/no/such/python")
    install_spec([{"host": name, "gpus": 1}], name="two")
    (host,) = seen(name, name)
    assert host["kernelspecs"] == ["one", "two"]
    assert host["gpus"]["configured"] == ["0"]
    assert host["state"] == "up"  # a kernelspec's interpreter is its kernels' matter


# -- again and again ------------------------------------------------------------------------


def test_watch_until_ctrl_c(rig: Rig, home: Path) -> None:
    name = rig.hosts[0].target
    with watching("--watch=0.2", name) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().rstrip("\n") for _ in range(8)]
    assert process.returncode == 0
    assert all(line.endswith("  1 of 1 hosts up") for line in (lines[0], lines[4]))
    assert lines[1] == lines[5]
    assert cells(lines[2])[:2] == cells(lines[6])[:2] == [name, "up"]
    assert lines[3] == lines[7] == ""


def test_watch_keeps_its_connections_and_finds_hosts_again(rig: Rig, home: Path) -> None:
    with (
        rig.relay(rig.hosts[0]) as relay,
        watching("--watch=0.1", "--json", relay.target, rig.hosts[1].target) as process,
    ):
        looks = rounds(process)
        before, stays = next(looks)
        for _ in range(3):
            again, stays_again = next(looks)
            assert (again["since"], again["connecting"]) == (before["since"], before["connecting"])
            assert again["agent"] == before["agent"]
        assert relay.connections == 1
        relay.refuse()
        relay.cut()
        down = next(first for first, _ in looks if first["state"] == "down")
        assert "refuses connections" in down["error"]
        assert down["since"] > before["since"]
        assert down["load"] is None
        relay.accept()
        back, stays_again = next(look for look in looks if look[0]["state"] == "up")
        assert back["since"] > down["since"]
        assert (back["error"], back["failed"]) == (down["error"], down["failed"])
        assert stays_again["connecting"] == stays["connecting"]
        assert stays_again["since"] == stays["since"]
    assert process.returncode == 0


def test_watch_tells_by_its_end_what_it_saw_last(rig: Rig, home: Path) -> None:
    with watching("--watch=0.1", "--json", rig.hosts[0].target, REFUSING) as process:
        looks = rounds(process)
        assert [host["state"] for host in next(looks)] == ["up", "down"]
        assert [host["state"] for host in next(looks)] == ["up", "down"]
    assert process.returncode == 1


def test_watch_redraws_on_a_terminal(rig: Rig, home: Path) -> None:
    ours, its = pty.openpty()
    name = rig.hosts[0].target
    # The option without a value: what follows is a host.
    environ = {**os.environ, "NO_COLOR": "1"}
    process = subprocess.Popen([*COMMAND, "--watch", name], stdout=its, env=environ)
    os.close(its)
    printed = b""
    while printed.count(b"1 of 1 hosts up") < 2 or not printed.endswith(b"\n"):
        printed += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == 0
    os.close(ours)
    first, second = printed.decode().split("\x1b[H\x1b[2J")[1:3]
    for text in (first, second):
        assert name in text
        assert all(len(line) <= 80 for line in text.replace("\x1b[3J", "").splitlines())


def test_ctrl_c_before_there_is_anything_to_show(rig: Rig, home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen(
            [*COMMAND, f"127.0.0.1:{server.getsockname()[1]}"], stderr=subprocess.PIPE, text=True
        )
        connection, _ = server.accept()
        with connection:
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert said.strip() == "jupyter remote hosts: interrupted"
