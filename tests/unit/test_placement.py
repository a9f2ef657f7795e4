import pytest

from remote_provisioners.errors import ConfigurationError
from remote_provisioners.placement import LeastConnection, Placement, RoundRobin, load_balancer

HOSTS = ["a", "b", "c"]


def test_round_robin_takes_each_in_turn() -> None:
    placement = Placement()
    assert [placement.place(HOSTS, RoundRobin()) for _ in range(7)] == list("abcabca")


def test_round_robin_counts_by_list() -> None:
    placement, policy = Placement(), RoundRobin()
    assert placement.place(HOSTS, policy) == "a"
    assert placement.place(["x", "y"], policy) == "x"
    assert placement.place(HOSTS, policy) == "b"


def test_a_failed_start_does_not_hold_the_turn() -> None:
    placement, policy = Placement(), RoundRobin()
    placement.release(placement.place(HOSTS, policy))
    assert placement.place(HOSTS, policy) == "b"


def test_least_connection_counts_starts_in_flight_and_releases() -> None:
    placement, policy = Placement(), LeastConnection()
    placement.occupy("a")  # pinned
    assert [placement.place(HOSTS, policy) for _ in range(3)] == ["b", "c", "a"]
    placement.release("b")
    assert placement.place(HOSTS, policy) == "b"
    placement.release("a")
    placement.release("a")
    assert "a" not in placement.kernels


def test_unknown_algorithm_lists_the_known() -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_balancer("fastest")
    assert (
        str(refused.value)
        == "unknown load balancing algorithm 'fastest' (known: least-connection, round-robin)"
    )
