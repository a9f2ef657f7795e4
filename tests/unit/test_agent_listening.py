"""Noticing that somebody listens, by each of the three ways, without being noticed."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from remote_provisioners.agent import apart
from remote_provisioners.agent.channels import listening
from remote_provisioners.agent.channels.endpoints import Endpoint

WAYS = [listening.by_netlink, listening.by_proc]


@pytest.fixture(params=["unix", "127.0.0.1", "0.0.0.0", "::"])
def bound(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[socket.socket, Endpoint]]:
    """A socket that is bound and does not listen yet."""
    if request.param == "unix":
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(tmp_path / "a socket"))
            yield opened, str(tmp_path / "a socket")
        return
    with socket.socket(socket.AF_INET6 if ":" in request.param else socket.AF_INET) as opened:
        opened.bind((request.param, 0))
        yield opened, opened.getsockname()[1]


@pytest.mark.parametrize("way", WAYS)
def test_bound_is_not_listening(
    bound: tuple[socket.socket, Endpoint], way: Callable[[Endpoint], bool]
) -> None:
    opened, endpoint = bound
    assert not way(endpoint)
    opened.listen()
    assert way(endpoint)
    opened.setblocking(False)
    with pytest.raises(BlockingIOError):
        opened.accept()
    opened.close()
    assert not way(endpoint)


@pytest.mark.parametrize("way", WAYS)
def test_another_address_does_not_count(way: Callable[[Endpoint], bool]) -> None:
    with socket.socket() as opened:
        opened.bind(("127.0.0.2", 0))
        opened.listen()
        assert not way(opened.getsockname()[1])


def test_the_ways_are_tried_in_turn(
    bound: tuple[socket.socket, Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, endpoint = bound
    opened.listen()

    def refused(*_: object) -> bool:
        raise OSError("not here")

    monkeypatch.setattr(listening, "by_netlink", refused)
    assert listening.is_listening(endpoint) is True
    monkeypatch.setattr(listening, "by_proc", refused)
    assert listening.is_listening(endpoint) is None


def test_where_the_system_does_not_tell_a_connection_speaks_zmtp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel sees a client that says its greeting and goes."""
    monkeypatch.setattr(listening, "is_listening", lambda endpoint: None)

    async def wait(endpoint: Endpoint) -> None:
        await asyncio.wait_for(listening.until_listens(endpoint), 10)

    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(f"ipc://{tmp_path}/s")
        asyncio.run(wait(str(tmp_path / "s")))
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        opened.listen()
        said: list[bytes] = []

        def answer() -> None:
            connection, _ = opened.accept()
            with connection:
                connection.sendall(b"\xff")
                while piece := connection.recv(100):
                    said.append(piece)

        thread = threading.Thread(target=answer)
        thread.start()
        asyncio.run(wait(opened.getsockname()[1]))
        thread.join()
        assert b"".join(said).startswith(b"\xff")


def test_a_socket_of_another_network_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is there, answers, and is not shown: the kernel runs in a container."""
    monkeypatch.setattr(listening, "_UNSEEN_SECONDS", 0.1)
    monkeypatch.setattr(listening, "is_listening", lambda endpoint: False)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.bind(f"ipc://{tmp_path}/s")

        async def body() -> None:
            await asyncio.wait_for(listening.until_listens(str(tmp_path / "s")), 10)

        asyncio.run(body())


@pytest.mark.parametrize("hangs", ["when the watch begins", "when the last file has come"])
def test_a_file_system_that_hangs_for_a_while_hides_no_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hangs: str
) -> None:
    looks = 0

    async def run(what: str, look: Callable[[], Any], **_: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks == (1 if hangs == "when the watch begins" else 3):
            raise OSError(errno.ETIMEDOUT, "it hangs", what)
        return look()

    monkeypatch.setattr(listening, "apart", SimpleNamespace(run=run, begin=apart.at_once))

    async def use() -> None:
        waiting = asyncio.ensure_future(listening.until_all_listen([str(tmp_path / "socket")]))
        while looks < 2:
            await asyncio.sleep(0)
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(str(tmp_path / "socket"))
            opened.listen()
            await waiting

    asyncio.run(asyncio.wait_for(use(), 5))
