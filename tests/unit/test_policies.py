from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_provisioners.errors import ConfigurationError, NoRoomError
from remote_provisioners.placement.host_table import first_turn
from remote_provisioners.placement.policies import (
    Fill,
    HostRow,
    LeastConnection,
    LeastLoad,
    Load,
    LoadBalancer,
    Requirements,
    RoundRobin,
    candidates,
    load_balancer,
    load_balancers,
)


def rows(**kernels: int) -> list[HostRow]:
    return [HostRow(host, count) for host, count in kernels.items()]


def load(**changes: Any) -> Load:
    fields = {"cores": 2, "load": 0.0, "memory": 100, "memory_available": 90, "others": 0}
    return Load(**{**fields, **changes})


def placed(policy: LoadBalancer, table: Sequence[HostRow], count: int) -> list[str]:
    """Where `count` starts go, each counted before the next."""
    chosen: list[str] = []
    counts = Counter({row.host: row.kernels for row in table})
    for turn in range(count):
        now = [HostRow(**{**vars(row), "kernels": counts[row.host]}) for row in table]
        chosen.append(policy.choose(candidates(now, Requirements()), turn))
        counts[chosen[-1]] += 1
    return chosen


def test_round_robin_takes_each_in_turn() -> None:
    assert placed(RoundRobin(), rows(a=0, b=5, c=0), 7) == list("abcabca")


def test_round_robin_by_weight_is_spread_evenly() -> None:
    table = [HostRow("a", weight=3), HostRow("b", weight=1)]
    assert placed(RoundRobin(), table, 8) == list("aabaaaba")


def test_least_connection_counts_and_weighs() -> None:
    assert placed(LeastConnection(), rows(a=1, b=0, c=0), 3) == ["b", "c", "a"]
    table = [HostRow("a", weight=2), HostRow("b", weight=1)]
    assert Counter(placed(LeastConnection(), table, 9)) == {"a": 6, "b": 3}


def test_least_load_counts_everybodys_kernels() -> None:
    table = [HostRow("a", load=load(others=2)), HostRow("b", load=load())]
    places = placed(LeastLoad(), table, 4)
    assert places[:2] == ["b", "b"]
    assert sorted(places[2:]) == ["a", "b"]  # both are as good now, and chance decides


def test_least_load_goes_by_cores_and_avoids_busy_hosts() -> None:
    table = [HostRow("a", load=load(cores=2)), HostRow("b", load=load(cores=8))]
    assert Counter(placed(LeastLoad(), table, 10)) == {"a": 2, "b": 8}
    busy = [HostRow("a", load=load(load=9.0)), HostRow("b", 3, load=load())]
    assert LeastLoad().choose(busy, 0) == "b"
    short = [HostRow("a", load=load(memory_available=1)), HostRow("b", 3, load=load())]
    assert LeastLoad().choose(short, 0) == "b"


def test_least_load_does_not_wait_for_hosts_that_have_not_reported() -> None:
    table = [HostRow("down"), HostRow("up", kernels=3, load=load())]
    assert {LeastLoad().choose(table, 0) for _ in range(20)} == {"up"}
    assert LeastLoad().choose([HostRow("down"), HostRow("up", load=load(load=9.0))], 0) == "down"


def test_fill_packs_up_to_the_capacity() -> None:
    table = [HostRow("a", capacity=2), HostRow("b", capacity=1), HostRow("c")]
    assert placed(Fill(), table, 5) == ["a", "a", "b", "c", "c"]


def test_full_hosts_say_how_full() -> None:
    table = [HostRow("a", 2, capacity=2), HostRow("b", 0, capacity=1, load=load(others=1))]
    with pytest.raises(NoRoomError) as error:
        candidates(table, Requirements())
    assert str(error.value) == "every host is full: a has 2 of 2 kernels, b has 1 of 1 kernels"


def test_labels_and_gpus() -> None:
    table = [
        HostRow("a", labels=frozenset({"big"})),
        HostRow("b", labels=frozenset({"big", "a100"}), gpus=2),
    ]
    assert [row.host for row in candidates(table, Requirements(frozenset({"big"})))] == ["a", "b"]
    assert [row.host for row in candidates(table, Requirements(frozenset({"big"}), 2))] == ["b"]
    with pytest.raises(NoRoomError) as error:
        candidates(table, Requirements(frozenset({"tpu"}), 3))
    assert str(error.value) == (
        "no host has labels tpu and 3 GPUs\n"
        "(available: a with big and 0 GPUs; b with a100, big and 2 GPUs)"
    )


hosts = st.lists(
    st.builds(
        HostRow,
        host=st.uuids().map(str),
        kernels=st.integers(0, 5),
        weight=st.sampled_from([0.5, 1.0, 2.0]),
        capacity=st.none() | st.integers(0, 6),
        load=st.none() | st.builds(load, others=st.integers(0, 3), load=st.floats(0, 9)),
    ),
    min_size=1,
    unique_by=lambda row: row.host,
)


@given(hosts, st.integers(0, 10_000), st.sampled_from(sorted(load_balancers())))
def test_every_policy_chooses_a_host_with_room(
    table: list[HostRow], starts: int, name: str
) -> None:
    free = {row.host for row in table if not row.full}
    if not free:
        with pytest.raises(NoRoomError):
            candidates(table, Requirements())
        return
    chosen = load_balancer(name).choose(candidates(table, Requirements()), starts)
    assert chosen in free
    assert chosen == load_balancer(name).choose(candidates(table, Requirements()), starts)  # pure


def test_unknown_algorithm_lists_the_installed() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_balancer("fastest")
    assert str(refused.value) == (
        "unknown load balancing algorithm 'fastest'\n"
        "(known: fill, least-connection, least-load, round-robin)"
    )


def test_least_load_is_by_chance_among_those_that_are_as_good() -> None:
    rows = [HostRow("a", load=load(load=0.1)), HostRow("b", load=load(load=0.0))]
    chosen = [LeastLoad().choose(rows, 0) for _ in range(100)]
    assert {*chosen} == {"a", "b"}
    rows.append(HostRow("c", kernels=1, load=load()))
    assert "c" not in [LeastLoad().choose(rows, 0) for _ in range(100)]


def test_least_connection_counts_the_kernels_of_others() -> None:
    rows = [HostRow("a", load=load(others=2)), HostRow("b", kernels=1), HostRow("c", kernels=3)]
    assert LeastConnection().choose(rows, 0) == "b"


def test_rounds_begin_anywhere() -> None:
    assert {first_turn() % 3 for _ in range(100)} == {0, 1, 2}


def test_servers_that_choose_at_the_same_moment_do_not_all_choose_the_same_host() -> None:
    """Eight servers see two hosts without kernels, which have their ordinary load."""
    rows = [HostRow("a", load=load(load=0.3)), HostRow("b", load=load(load=0.1))]
    herds = [Counter(LeastLoad().choose(rows, 0) for _ in range(8)) for _ in range(300)]
    # By pure chance it is 7 % of them.
    assert sum(max(herd.values()) >= 7 for herd in herds) < 60
