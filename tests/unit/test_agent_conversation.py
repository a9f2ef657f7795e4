"""Conversations of clients that leave and come back, with a real ROUTER as the kernel's socket."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import zmq

from remote_provisioners.agent.streams import left_conversations as module
from remote_provisioners.agent.streams.conversation import Conversation
from remote_provisioners.agent.streams.left_conversations import LeftConversations
from remote_provisioners.agent.streams.lost_replies import LostReplies
from remote_provisioners.protocol import zmtp
from remote_provisioners.protocol.stream import Stream

from .test_agent_stream import Pipe, Socket

CLIENT = b"the-session"


def greeted(identity: bytes) -> bytes:
    """The handshake of a client with this identity."""
    named = b"\x0bSocket-Type\0\0\0\x06DEALER\x08Identity"
    return zmtp.GREETING + zmtp.command(
        b"READY", named + len(identity).to_bytes(4, "big") + identity
    )


def jupyter(kind: str, msg_id: str, parent: str = "", content: str = "") -> list[bytes]:
    header = json.dumps({"msg_type": kind, "msg_id": msg_id}).encode()
    of = json.dumps({"msg_id": parent} if parent else {}).encode()
    return [b"<IDS|MSG>", b"signature", header, of, b"{}", content.encode()]


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


class Watched(Conversation):
    """Counts the messages that the kernel sends."""

    received = 0
    lost = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.received += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost = True


class Kernel:
    """The socket of a kernel."""

    def __init__(self, directory: Path) -> None:
        self.conversations: list[Watched] = []
        self.path = str(directory / "k")
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.bind(f"ipc://{self.path}")

    async def receive(self) -> list[bytes]:
        await until(lambda: self._socket.poll(0))
        return self._socket.recv_multipart()

    async def reply(self, request: list[bytes], content: str = "") -> None:
        """Returns when the agent has the reply, if it has the client's connection."""
        parent = json.loads(request[3])["msg_id"]
        reply = jupyter("execute_reply", f"re-{parent}", parent, content)
        connected = [c for c in self.conversations if c.identity == request[0] and not c.lost]
        before = [conversation.received for conversation in connected]
        self._socket.send_multipart([request[0], *reply])
        size = len(zmtp.message(reply))
        for conversation, had in zip(connected, before, strict=True):
            await until(lambda c=conversation, n=had + size: c.lost or c.received >= n)

    def close(self) -> None:
        self._context.destroy(0)


class Client:
    """A client whose server has a stream to the agent."""

    def __init__(self) -> None:
        self.stream, self._agents, self._socket = Stream(), Stream(), Socket()
        self.stream.join(self._socket)
        self.pipe = Pipe(self.stream, self._agents)

    @property
    def got(self) -> list[bytes]:
        """The messages that have come after the handshake."""
        data = self._socket.got
        end = zmtp.end_of_handshake(data) if data[:1] == b"\xff" else 0
        return [raw for _, raw in zmtp.Decoder().feed(data[max(0, end) :])]

    async def talk(self, conversation: Conversation) -> None:
        conversation.attach(self._agents)
        self.stream.send(greeted(conversation.identity))
        await self.pipe.settle()

    async def send(self, frames: list[bytes]) -> None:
        self.stream.send(zmtp.message(frames))
        await self.pipe.settle()

    def vanish(self) -> None:
        self.pipe.cut()
        self._agents.abort()


class World:
    """A kernel, and what an agent does for its clients."""

    def __init__(self, directory: Path) -> None:
        self.kernel = Kernel(directory)
        self.left = LeftConversations()
        self.hosted: Any = object()

    async def connect(self, channel: str = "shell", identity: bytes = CLIENT) -> Conversation:
        key = (self.hosted, channel, identity)
        made = Watched(identity, lambda: self.left.keep(key, made))
        self.kernel.conversations.append(made)
        await asyncio.get_running_loop().create_unix_connection(lambda: made, self.kernel.path)
        return made

    def take(self, channel: str = "shell", identity: bytes = CLIENT) -> Conversation | None:
        return self.left.take((self.hosted, channel, identity))

    async def end(self) -> None:
        self.left.close()
        await asyncio.sleep(0.01)
        self.kernel.close()


Case = Callable[[World], Coroutine[Any, Any, None]]


def run(test: Case, directory: Path) -> None:
    async def body() -> None:
        world = World(directory)
        try:
            await test(world)
        finally:
            await world.end()

    asyncio.run(body())


def test_what_a_client_says_of_itself() -> None:
    """By libzmq's own handshake."""
    with zmq.Context() as context, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        for identity in (b"", CLIENT, bytes(range(1, 256))):
            with context.socket(zmq.DEALER) as dealer:
                dealer.linger = 0
                if identity:
                    dealer.identity = identity
                dealer.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
                with listener.accept()[0] as accepted:
                    accepted.sendall(zmtp.greeting(b"ROUTER"))
                    data = b""
                    while zmtp.end_of_handshake(data) < 0:
                        data += accepted.recv(1000)
                    assert zmtp.identity(data) == identity


def test_a_reply_waits_for_the_client(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        client = Client()
        await client.talk(await world.connect())
        for name in ("answered", "unanswered"):
            await client.send(jupyter("execute_request", name))
        await world.kernel.reply(await world.kernel.receive())
        await client.pipe.settle()
        assert len(client.got) == 1
        client.vanish()
        assert len(world.left) == 1
        await world.kernel.reply(await world.kernel.receive())

        back = Client()
        conversation = world.take()
        assert conversation is not None
        await back.talk(conversation)
        await back.pipe.settle()
        assert [b"re-unanswered" in message for message in back.got] == [True]
        await back.send(jupyter("execute_request", "next"))
        await world.kernel.reply(await world.kernel.receive())
        await back.pipe.settle()
        assert b"re-next" in back.got[-1]
        back.vanish()  # with nothing to come back for
        assert not len(world.left)

    run(body, tmp_path)


def test_nothing_is_kept_that_cannot_go_on(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        client = Client()
        await client.talk(await world.connect())
        await client.send(jupyter("execute_request", "one"))
        large = zmtp.message(jupyter("execute_request", "two", content="x" * 3_000_000))
        client.stream.send(large[:2_000_000])
        await client.pipe.settle()
        client.vanish()  # the kernel has the beginning of a request
        assert not len(world.left)
        nobody = Client()
        await nobody.talk(await world.connect(identity=b""))
        nobody.vanish()
        assert not len(world.left)
        ended = Client()
        await ended.talk(await world.connect())
        await ended.send(jupyter("execute_request", "three"))
        ended.vanish()
        assert len(world.left) == 1
        world.kernel.close()
        await until(lambda: not len(world.left))

    run(body, tmp_path)


def test_messages_of_any_size_pass(tmp_path: Path) -> None:
    async def body(world: World) -> None:
        client = Client()
        await client.talk(await world.connect())
        for size in (1, 200, 70_000, 3_000_000):
            frames = jupyter("execute_request", f"of {size}", content="x" * size)
            await client.send(frames)
            request = await world.kernel.receive()
            assert request[1:] == frames
            await world.kernel.reply(request, "y" * size)
            await client.pipe.settle()
            assert zmtp.bodies(client.got[-1])[-1] == b"y" * size
        await client.send(jupyter("execute_request", "large"))
        client.vanish()
        await world.kernel.reply(await world.kernel.receive(), "z" * 3_000_000)
        conversation = world.take()
        assert conversation is None  # too large to be kept, and nothing else to come

    run(body, tmp_path)


def test_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CLIENTS", 3)
    monkeypatch.setattr(module, "MOST_BYTES", 100_000)

    async def body(world: World) -> None:
        requests = []
        for number in range(4):
            client = Client()
            identity = b"client%d" % number
            await client.talk(await world.connect(identity=identity))
            await client.send(jupyter("execute_request", str(number)))
            client.vanish()
            requests.append(await world.kernel.receive())
        assert len(world.left) == 3
        assert world.take(identity=b"client0") is None
        for request in requests[1:]:
            await world.kernel.reply(request, "x" * 40_000)
        assert world.take(identity=b"client1") is None  # it had left first
        for number in (2, 3):
            kept = world.take(identity=b"client%d" % number)
            assert kept is not None
            assert kept.missed == 1
            kept.end()

    run(body, tmp_path)


def test_a_question_waits_while_its_cell_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TOGETHER_SECONDS", 0.0)

    async def body(world: World) -> None:
        for runs in (True, False):
            clients = [Client(), Client()]
            for client, channel in zip(clients, ("stdin", "shell"), strict=True):
                await client.talk(await world.connect(channel))
                if channel == "shell" and runs:
                    await client.send(jupyter("execute_request", "one"))
                client.vanish()
            world.left.tidy()
            assert len(world.left) == 2 * runs
            for channel in ("stdin", "shell"):
                kept = world.take(channel)
                if kept is not None:
                    kept.end()
            await until(lambda: all(each.lost for each in world.kernel.conversations))

    run(body, tmp_path)


def test_replies_that_a_killed_agent_had(tmp_path: Path) -> None:
    """The kernel has answered one of three requests, and answers another one late."""

    async def body(world: World) -> None:
        client, over = Client(), []
        conversation = await world.connect()
        await client.talk(conversation)
        headers = [jupyter("execute_request", name)[2].decode() for name in ("lost", "late")]
        headers.append(jupyter("complete_request", "other")[2].decode())
        headers.append(json.dumps({**json.loads(headers[0]), "msg_id": "b", "subshell_id": "1"}))
        connection = {"key": "secret", "signature_scheme": "hmac-sha256"}
        conversation.find_lost(LostReplies(connection, headers, over.append))
        question = await world.kernel.receive()
        assert json.loads(question[6])["silent"]
        await world.kernel.reply([question[0], *jupyter("execute_request", "late")])
        await world.kernel.reply(question)
        await client.pipe.settle()
        late, made = client.got
        assert b"re-late" in late
        frames = zmtp.bodies(made)
        assert frames[3] == headers[0].encode()
        assert json.loads(frames[5])["ename"] == "ReplyLost"
        assert over == [headers[0].encode()]
        client.vanish()

    run(body, tmp_path)
