from __future__ import annotations

import pytest

from remote_provisioners.protocol.pace import (
    LEAST_BYTES,
    MOST_BYTES,
    SHARED_PIECE_BYTES,
    Pace,
    Traffic,
)


def test_traffic_is_shared_while_several_kernels_send() -> None:
    traffic = Traffic()
    for at in range(10):
        traffic.sends("a", at)
    assert not traffic.is_shared(9)
    traffic.sends("b", 9.0)
    assert traffic.is_shared(9.05)
    assert not traffic.is_shared(9.2)
    traffic.sends("b", 9.2)
    assert not traffic.is_shared(9.2)
    traffic.sends("a", 9.3)
    assert traffic.is_shared(9.3)


@pytest.mark.parametrize("seconds", [0.0001, 0.001, 0.02, 0.1])
@pytest.mark.parametrize("rate", [1e6, 10e6, 50e6])
def test_a_way_is_filled_whatever_its_length_without_a_queue(seconds: float, rate: float) -> None:
    """Simulated: `rate` bytes a second, whose acknowledgement takes so many seconds."""
    pace = Pace()
    now = free = 0.0  # `free`: when the way has carried all that was sent
    end = arrived = 0
    answers: list[tuple[float, int, bool]] = []
    marks = [(now, arrived)]
    while len(marks) < 3:  # it learns, then it is measured
        while end - arrived < pace.room:
            end += SHARED_PIECE_BYTES
            free = max(free, now) + SHARED_PIECE_BYTES / rate
            answers.append((free + seconds, end, pace.sent(end, end - arrived, now)))
        now, arrived, asked = answers.pop(0)
        if asked:
            pace.acknowledged(arrived, now)
        if arrived - marks[-1][1] >= 40e6:
            marks.append((now, arrived))
    (begun, before), (ended, after) = marks[1:]
    assert (after - before) / (ended - begun) > 0.9 * rate
    queue = pace.room - rate * seconds
    assert queue <= max(2 * LEAST_BYTES, 0.5 * rate * seconds)


def test_room_has_bounds() -> None:
    pace = Pace()
    end = 0
    for at in range(1000):  # answers as early as ever, whatever is on the way
        end += pace.room
        assert pace.sent(end, pace.room, at)
        pace.acknowledged(end, at + 0.001)
    assert pace.room == MOST_BYTES
    assert pace.sent(end + SHARED_PIECE_BYTES, SHARED_PIECE_BYTES, 2000)
    pace.acknowledged(end + SHARED_PIECE_BYTES, 2100)
    assert pace.room == LEAST_BYTES


def test_not_every_word_is_asked_for() -> None:
    pace = Pace()
    assert not pace.sent(100, 100, 0)
    assert pace.sent(SHARED_PIECE_BYTES, SHARED_PIECE_BYTES, 0)
    assert not pace.sent(SHARED_PIECE_BYTES + 100, SHARED_PIECE_BYTES + 100, 0)
