"""Output that is kept: bounds, order, whose it is, and the marker of what was dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jupyter_client.session import Session

from remote_provisioners.agent.output import budget as budget_module
from remote_provisioners.agent.output import spool as spool_module
from remote_provisioners.agent.output import subscriber as subscriber_module
from remote_provisioners.agent.output.budget import Budget
from remote_provisioners.agent.output.gap import Gap
from remote_provisioners.agent.output.gap_notice import gap_notices, welcome
from remote_provisioners.agent.output.recorder import Recorder
from remote_provisioners.agent.output.source import Source
from remote_provisioners.agent.output.spool import Spool
from remote_provisioners.agent.output.subscriber import Subscriber
from remote_provisioners.protocol import stream as stream_module
from remote_provisioners.protocol import zmtp
from remote_provisioners.protocol.frames import ACK, OFFSET
from remote_provisioners.protocol.stream import Stream


def raw(number: int, size: int = 0) -> bytes:
    return zmtp.message([b"topic", b"%d" % number, bytes(size)])


def number_of(message: bytes) -> int:
    return int(zmtp.bodies(message)[1])


def read_all(spool: Spool) -> list[int]:
    numbers, at = [], spool.first
    while at < spool.end:
        messages = spool.read(at)
        numbers += [number_of(message) for message in messages]
        at += len(messages)
    return numbers


# -- the spool -----------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.one_of(st.integers(0, 3000), st.just("trim")), max_size=60),
    st.sampled_from([0, 1, 2000, 10_000]),
    st.sampled_from([0, 5000, 50_000]),
)
def test_in_order_within_bounds(
    tmp_path: Path, steps: list[int | str], memory: int, disk: int
) -> None:
    spool, trimmed = Spool(str(tmp_path), memory, disk), 0
    for step in steps:
        if isinstance(step, int):
            spool.append(raw(spool.end, step))
            assert spool.fit()
        else:
            trimmed = (spool.first + spool.end) // 2
            spool.trim(trimmed)
        assert read_all(spool) == list(range(spool.first, spool.end))
        in_memory = [m for b in spool._blocks for m in b.messages or ()]
        assert sum(len(message) for message in in_memory) <= memory
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= disk
    spool.close()
    assert not list(tmp_path.iterdir())


def test_nothing_is_dropped_before_both_bounds(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), 10_000, 100_000)
    for number in range(100):
        spool.append(raw(number, 900))
        spool.fit()
    assert spool.first == 0
    assert list(tmp_path.iterdir())
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    spool.trim(95)
    assert read_all(spool)[-5:] == [95, 96, 97, 98, 99]
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_gone_is_a_gap(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), 2000, 100_000)
    for number in range(20):
        spool.append(raw(number, 900))
        spool.fit()
    min(tmp_path.iterdir(), key=lambda path: int(path.name.partition("-")[2])).unlink()
    assert spool.read(0) == []
    assert spool.first > 0
    assert read_all(spool) == list(range(spool.first, 20))


def test_a_full_disk_is_as_if_the_bound_were_reached(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "not there"), 2000, 100_000)
    for number in range(20):
        spool.append(raw(number, 900))
        spool.fit()
    assert read_all(spool) in ([18, 19], [19])


# -- the marker ----------------------------------------------------------------------------


def test_the_marker_is_a_signed_message_in_the_cell_that_lost_something() -> None:
    session = Session(key=b"secret", signature_scheme="hmac-sha256")
    parent = session.msg_header("execute_request")
    message = session.msg("stream", {"name": "stdout", "text": "x"}, parent={"header": parent})
    following = zmtp.message([b"stream.stdout", *session.serialize(message)])
    connection = {"key": "secret", "signature_scheme": "hmac-sha256"}
    (notice,) = gap_notices(connection, Gap.of([following] * 3), None)
    made = zmtp.bodies(notice)
    assert made[0] == b"stream.stderr"
    _, parts = session.feed_identities(made)
    read = session.deserialize(parts)
    assert read["msg_type"] == "stream"
    assert read["parent_header"]["msg_id"] == parent["msg_id"]
    assert read["content"] == {
        "name": "stderr",
        "text": "[remote-provisioners: 3 messages of output are missing here: more than the host "
        "keeps]\n",
    }


@pytest.mark.parametrize("following", [None, raw(1), zmtp.message([b"<IDS|MSG>"])])
def test_a_marker_before_what_is_no_message_of_jupyter(following: bytes | None) -> None:
    session = Session(key=b"")
    _, parts = session.feed_identities(
        zmtp.bodies(gap_notices({"key": ""}, Gap.of([raw(0)]), following)[0])
    )
    read = session.deserialize(parts)
    assert read["parent_header"] == {}
    assert read["content"]["text"].startswith("[remote-provisioners: 1 message of output is")


@pytest.mark.parametrize("topic", [b"", b"stream"])
def test_a_welcome_is_that_of_ipykernel(topic: bytes) -> None:
    session = Session(key=b"secret", signature_scheme="hmac-sha256")
    connection = {"key": "secret", "signature_scheme": "hmac-sha256"}
    made = zmtp.bodies(welcome(connection, topic))
    identities, parts = session.feed_identities(made)
    assert identities == ([topic] if topic else [])
    read = session.deserialize(parts)
    assert read["msg_type"] == "iopub_welcome"
    assert read["content"] == {"subscription": topic.decode()}


# -- the recorder --------------------------------------------------------------------------


class KnowsItsEnd(Stream):
    finished = False

    def finish(self) -> None:
        self.finished = True
        super().finish()


class Client:
    """A SUB socket and its server: what it has received; `acknowledge` says so."""

    def __init__(
        self, recorder: Recorder, replay: bool = False, topics: tuple[bytes, ...] = (b"",)
    ):
        self.stream = KnowsItsEnd()
        self.subscriber: Subscriber = recorder.attach(self.stream, replay)
        self.stream.join(self.subscriber)
        self._zmtp = zmtp.Connection(b"SUB")
        self.got: list[Any] = []
        #: Whether the first message is a welcome; None before one has come.
        self.welcome: bool | None = None
        self.receive()
        self.subscriber.write(self._zmtp.take_output())
        for topic in topics:
            self.subscriber.write(zmtp.message([b"\1" + topic]))

    def receive(self) -> list[Any]:
        """All that was received: the messages' numbers, and markers. Who gets what was kept is
        welcomed first.
        """
        while (piece := self.stream.outgoing.take()) is not None:
            for message in self._zmtp.feed(bytes(piece)):
                if self.welcome is None:
                    self.welcome = b'"iopub_welcome"' in message
                    if self.welcome:
                        continue
                is_marker = zmtp.topic(message) == b"stream.stderr"
                self.got.append("marker" if is_marker else number_of(message))
        return self.got

    def acknowledge(self) -> None:
        self.receive()
        self.stream.receive(ACK, OFFSET.pack(self.stream.outgoing.sent_end))


class Socket:
    """Of the kernel: what was written to it, and whether it is read."""

    def __init__(self) -> None:
        self.written, self.is_read = b"", True

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def abort(self) -> None:
        pass


class Kernel:
    """Publishes numbers."""

    def __init__(self, directory: Path, memory: int = 100_000, disk: int = 0) -> None:
        self.recorder = Recorder(Spool(str(directory), memory, disk))
        self.count = 0
        self.start()

    def start(self) -> None:
        self.source = self.recorder.source = Source(self.recorder)
        self.socket: Any = Socket()
        self.source.connection_made(self.socket)
        self.source.data_received(zmtp.GREETING + zmtp.ready(b"PUB"))

    def publish(self, count: int = 1, size: int = 0) -> None:
        for _ in range(count):
            self.source.data_received(raw(self.count, size))
            self.count += 1

    @property
    def kept(self) -> int:
        return self.recorder.spool.end - self.recorder.spool.first


Scenario = Callable[[Kernel], None]


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., None]]:
    def run(scenario: Scenario, **bounds: int) -> None:
        async def body() -> None:
            kernel = Kernel(tmp_path, **bounds)
            scenario(kernel)
            kernel.recorder.close()

        coroutine: Coroutine[Any, Any, None] = body()
        asyncio.run(coroutine)

    yield run
    assert not list(tmp_path.iterdir())


def test_who_listens_gets_what_comes_and_nothing_is_kept(play: Callable[..., None]) -> None:
    def scenario(kernel: Kernel) -> None:
        kernel.publish(3)  # nobody has ever listened: as with a local kernel
        one, two = Client(kernel.recorder), Client(kernel.recorder)
        kernel.publish(2)
        assert one.receive() == two.receive() == [3, 4]
        one.acknowledge()
        assert kernel.kept > 0
        two.acknowledge()
        assert kernel.kept == 0

    play(scenario)


def test_prefixes_are_honoured(play: Callable[..., None]) -> None:
    def scenario(kernel: Kernel) -> None:
        none = Client(kernel.recorder, topics=())
        other = Client(kernel.recorder, topics=(b"x", b"y"))
        some = Client(kernel.recorder, topics=(b"x", b"to"))
        kernel.publish(2)
        assert (none.receive(), other.receive(), some.receive()) == ([], [], [0, 1])
        some.subscriber.write(zmtp.message([b"\0to"]))
        kernel.publish()
        assert some.receive() == [0, 1]
        some.acknowledge()
        other.acknowledge()
        assert kernel.kept == 0

    play(scenario)


def test_a_vanished_clients_rest_goes_to_who_asks(play: Callable[..., None]) -> None:
    def scenario(kernel: Kernel) -> None:
        one, two = Client(kernel.recorder), Client(kernel.recorder)
        kernel.publish(2)
        one.acknowledge()
        two.acknowledge()
        kernel.publish(2)
        two.acknowledge()
        for client in (one, two):
            kernel.recorder.detach(client.subscriber, vanished=True)
        kernel.publish(2)
        watcher = Client(kernel.recorder)
        kernel.publish()
        notebook = Client(kernel.recorder, replay=True)
        kernel.publish()
        assert notebook.receive() == [2, 3, 4, 5, 6, 7]
        assert watcher.receive() == [6, 7]
        assert (notebook.welcome, watcher.welcome) == (True, False)
        assert Client(kernel.recorder, replay=True).receive() == []
        for client in (watcher, notebook):
            client.acknowledge()

    play(scenario)


def test_what_came_after_the_last_client_closed(play: Callable[..., None]) -> None:
    """Is nobody's, as with a local kernel, unless another server adopts the kernel."""

    def scenario(kernel: Kernel) -> None:
        for adopted in (False, True):
            client = Client(kernel.recorder)
            kernel.recorder.detach(client.subscriber, vanished=False)
            begun = kernel.count
            kernel.publish(2)
            if adopted:
                kernel.recorder.adopted()
            Client(kernel.recorder)
            kernel.publish()
            replayed = Client(kernel.recorder, replay=True).receive()
            assert replayed == ([begun, begun + 1, begun + 2] if adopted else [])
            for subscriber in list(kernel.recorder.subscribers):
                kernel.recorder.detach(subscriber, vanished=False)

    play(scenario)


@pytest.mark.parametrize("disk", [0, 20_000])
def test_a_marker_stands_where_output_was_dropped(play: Callable[..., None], disk: int) -> None:
    def scenario(kernel: Kernel) -> None:
        client = Client(kernel.recorder)
        kernel.publish()
        client.acknowledge()
        kernel.recorder.detach(client.subscriber, vanished=True)
        kernel.publish(100, size=900)
        got = Client(kernel.recorder, replay=True).receive()
        assert got[0] == "marker"
        assert got[1:] == list(range(got[1], 101))
        assert (10_000 + disk) / 1100 - 4 < len(got) < (10_000 + disk) / 1000 + 1

    play(scenario, memory=10_000, disk=disk)


def test_a_slow_client_does_not_keep_the_kernel_waiting(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the fast one; it gets all in the end, or the marker."""
    monkeypatch.setattr(stream_module, "KEPT_BYTES", 5000)
    monkeypatch.setattr(spool_module, "HELD_MESSAGES", 20)

    def scenario(kernel: Kernel) -> None:
        slow, fast = Client(kernel.recorder), Client(kernel.recorder)
        for number in range(30):
            kernel.publish(size=900)
            fast.acknowledge()
            assert fast.got[-1] == number
        assert len(slow.receive()) < 10
        for _ in range(10):
            slow.acknowledge()
        assert slow.receive() == list(range(30))
        assert kernel.kept == 0
        for _ in range(200):
            kernel.publish(size=900)
            fast.acknowledge()
        for _ in range(50):
            slow.acknowledge()
        assert "marker" in slow.got
        assert slow.got[-50:] == fast.got[-50:] == list(range(180, 230))
        assert "marker" not in fast.got

    play(scenario, memory=100_000)


def test_clients_stay_while_the_kernel_is_restarted(play: Callable[..., None]) -> None:
    def scenario(kernel: Kernel) -> None:
        client = Client(kernel.recorder)
        kernel.publish(2)
        kernel.source.connection_lost(None)
        assert not client.stream.finished
        kernel.start()
        kernel.publish(2)
        assert client.receive() == [0, 1, 2, 3]
        client.acknowledge()

    play(scenario)


def test_the_end_of_the_kernel_comes_after_its_last_words(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "KEPT_BYTES", 1000)

    def scenario(kernel: Kernel) -> None:
        client = Client(kernel.recorder)
        kernel.publish(5, size=900)
        kernel.source.connection_lost(None)
        kernel.recorder.over = True
        kernel.recorder.pump()
        assert not client.stream.finished
        for _ in range(5):
            client.acknowledge()
        assert client.receive() == [0, 1, 2, 3, 4]
        assert client.stream.finished

    play(scenario)


# -- messages that are larger than what is kept ----------------------------------------------

PARENT = Session(key=b"").msg_header("execute_request")
MIB = 1024 * 1024


def of_a_cell(number: int, size: int = 0, status: str = "") -> bytes:
    """A message of Jupyter's, whose parent is PARENT."""
    session = Session(key=b"")
    kind = "status" if status else "stream"
    content = {"execution_state": status} if status else {"n": number, "text": "x" * size}
    frames = session.serialize(session.msg(kind, content, parent={"header": PARENT}))
    return zmtp.message([b"kernel." + kind.encode(), *(bytes(f) for f in frames)])


def arrive(kernel: Kernel, message: bytes) -> None:
    """In pieces as a socket gives them, as long as it is read."""
    for at in range(0, len(message), 256 * 1024):
        assert kernel.socket.is_read
        kernel.source.data_received(message[at : at + 256 * 1024])


class Reader(Client):
    """Keeps the messages themselves."""

    def receive(self) -> list[Any]:
        while (piece := self.stream.outgoing.take()) is not None:
            self.got += self._zmtp.feed(bytes(piece))
        return self.got


def seen(message: bytes) -> tuple[str, Any, str]:
    """A message as its client takes it: type, content, id of the parent."""
    session = Session(key=b"")
    _, parts = session.feed_identities(zmtp.bodies(message))
    read = session.deserialize(parts)
    content = read["content"]
    what = content.get("text", content.get("execution_state"))
    return read["msg_type"], what, read["parent_header"].get("msg_id", "")


@pytest.mark.parametrize("disk", [0, 3 * MIB, 100 * MIB])
def test_a_message_larger_than_what_is_kept_reaches_who_reads(
    play: Callable[..., None], disk: int
) -> None:
    def scenario(kernel: Kernel) -> None:
        reader, large = Reader(kernel.recorder), of_a_cell(0, 20 * MIB)
        for number in range(2):
            for at in range(0, len(large), 256 * 1024):
                kernel.source.data_received(large[at : at + 256 * 1024])
                reader.acknowledge()
                assert kernel.recorder.spool.memory_used <= MIB
                assert kernel.recorder.spool.disk_used <= disk
            kernel.source.data_received(of_a_cell(number))
            assert reader.receive() == [large, of_a_cell(number)] or len(reader.got) == 2
            assert reader.got[0] == large
            reader.got.clear()
            reader.acknowledge()
        assert kernel.kept == 0
        assert kernel.socket.is_read

    play(scenario, memory=MIB, disk=disk)


def test_the_kernel_waits_while_a_client_reads_what_cannot_be_kept(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "KEPT_BYTES", MIB)

    def scenario(kernel: Kernel) -> None:
        reader, sent = Reader(kernel.recorder), []
        for number in range(5):
            sent.append(of_a_cell(number, 5 * MIB))
            for at in range(0, len(sent[-1]), 256 * 1024):
                while not kernel.socket.is_read:
                    reader.acknowledge()
                kernel.source.data_received(sent[-1][at : at + 256 * 1024])
                assert kernel.recorder.spool.memory_used <= 2.5 * MIB
        while len(reader.receive()) < 5:
            reader.acknowledge()
        assert reader.got == sent
        reader.acknowledge()
        assert kernel.kept == 0

    play(scenario, memory=2 * MIB, disk=0)


def test_who_reads_nothing_is_not_waited_for(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cut off within the message, and told when it comes again."""
    monkeypatch.setattr(stream_module, "KEPT_BYTES", MIB)

    def scenario(kernel: Kernel) -> None:
        stuck, large = Reader(kernel.recorder), of_a_cell(0, 9 * MIB)
        at = 0
        while kernel.socket.is_read:
            kernel.source.data_received(large[at : at + 256 * 1024])
            at += 256 * 1024
        monkeypatch.setattr(subscriber_module, "_STALLED_SECONDS", 0.0)
        kernel.recorder.pump()
        assert kernel.socket.is_read
        arrive(kernel, large[at:])
        kernel.source.data_received(of_a_cell(1))
        stuck.stream.on_acknowledged = lambda: None
        stuck.acknowledge()
        stuck.subscriber.resume_reading()
        assert stuck.stream.over
        kernel.recorder.detach(stuck.subscriber, vanished=False)
        again = Reader(kernel.recorder)
        told = [seen(message) for message in again.receive()[1:]]
        text = (
            "[remote-provisioners: 1 message of output is missing here: more than the host keeps]\n"
        )
        assert told == [("stream", text, PARENT["msg_id"]), ("stream", "", PARENT["msg_id"])]

    play(scenario, memory=2 * MIB, disk=0)


def test_nobody_reads_a_large_message(play: Callable[..., None]) -> None:
    """Then it is kept as far as the bounds allow, and else missing: who asks is told."""

    def scenario(kernel: Kernel) -> None:
        for size, expected in ((3, ["x" * 3 * MIB, ""]), (30, [None, ""])):
            client = Reader(kernel.recorder)
            kernel.recorder.detach(client.subscriber, vanished=True)
            arrive(kernel, of_a_cell(0, size * MIB))
            arrive(kernel, of_a_cell(1))
            again = Reader(kernel.recorder, replay=True)
            found = [seen(message) for message in again.receive()[1:]]
            assert {parent for _, _, parent in found} == {PARENT["msg_id"]}
            for (_, text, _), wanted in zip(found, expected, strict=True):
                assert text == wanted or (wanted is None and "1 message of output is" in text)
            kernel.recorder.detach(again.subscriber, vanished=False)

    play(scenario, memory=MIB, disk=10 * MIB)


def test_a_kernel_that_ends_within_a_message(play: Callable[..., None]) -> None:
    """Its client is cut off, or would take the next message for the rest of that one."""

    def scenario(kernel: Kernel) -> None:
        reader, late = Reader(kernel.recorder), Reader(kernel.recorder)
        late.subscriber.pause_reading()
        arrive(kernel, of_a_cell(0, 5 * MIB)[: 3 * MIB])
        kernel.source.connection_lost(None)
        assert reader.stream.over
        kernel.recorder.detach(reader.subscriber, vanished=False)
        kernel.start()
        kernel.publish()
        late.subscriber.resume_reading()
        kinds = [seen(message)[0] for message in late.receive()[:-1]]
        assert kinds == ["stream"]
        assert number_of(late.got[-1]) == 0

    play(scenario, memory=10 * MIB)


def test_each_cell_is_told_what_it_lost_and_that_it_is_over() -> None:
    session = Session(key=b"")
    other = session.msg("status", {"execution_state": "idle"}, parent={"header": {"msg_id": "b"}})
    status = zmtp.message([b"kernel.status", *(bytes(f) for f in session.serialize(other))])
    lost = [of_a_cell(0), of_a_cell(1), of_a_cell(2, status="idle"), status]
    notices = gap_notices({"key": ""}, Gap.of(lost), None)
    told = [seen(notice) for notice in notices]
    assert [(kind, parent) for kind, _, parent in told] == [
        ("stream", PARENT["msg_id"]),
        ("status", PARENT["msg_id"]),
        ("status", "b"),
    ]
    assert "2 messages of output are missing" in told[0][1]
    assert Gap.of(lost).after(1).count == 3


def test_the_end_of_a_subscription_is_the_clients_own(play: Callable[..., None]) -> None:
    def scenario(kernel: Kernel) -> None:
        one, two = Client(kernel.recorder), Client(kernel.recorder)
        before = kernel.socket.written
        one.subscriber.write(zmtp.message([b"\0"]))
        one.subscriber.write(zmtp.command(b"CANCEL", b""))
        assert kernel.socket.written == before
        kernel.publish()
        assert (one.receive(), two.receive()) == ([], [0])
        two.acknowledge()

    play(scenario)


# -- the bound of all ------------------------------------------------------------------------


@pytest.mark.parametrize("in_memory", [False, True])
def test_one_bound_for_all_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    """The one that keeps most gives way; a notice comes before anything is dropped."""
    monkeypatch.setattr(budget_module.memory, "available", lambda: 200 * MIB)
    monkeypatch.setattr(budget_module.memory, "is_in_memory", lambda directory: in_memory)
    monkeypatch.setattr(budget_module, "_VALID_SECONDS", 0.0)
    told: list[str] = []
    budget = Budget(str(tmp_path), told.append)
    monkeypatch.setattr(
        budget_module.memory,
        "available",
        lambda: 200 * MIB - budget.memory_used - (budget.disk_used if in_memory else 0),
    )
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    small = Spool(str(tmp_path / "one"), 100 * MIB, 0, budget)
    large = Spool(str(tmp_path / "two"), 100 * MIB, 100 * MIB if in_memory else 0, budget)
    for _ in range(10):
        small.append(bytes(MIB))
        small.fit()
    dropped_before_told = False
    for _ in range(90):
        large.append(bytes(MIB))
        large.fit()
        dropped_before_told |= large.first > 0 and not told
    assert budget.memory_used + budget.disk_used <= 51 * MIB
    assert (small.first, large.first > 0) == (0, True)
    if in_memory:
        assert not dropped_before_told
        assert "MiB of output are kept" in told[0]
    for spool in (small, large):
        spool.close()
    assert (budget.memory_used, budget.disk_used) == (0, 0)
