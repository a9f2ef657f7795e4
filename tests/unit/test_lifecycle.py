from hypothesis import given
from hypothesis import strategies as st

from remote_provisioners.kernels.lifecycle import LOST_EXIT_CODE, Lifecycle, State

EVENTS = {
    "launched": lambda life: life.launched(),
    "listening": lambda life: life.listening(),
    "disconnected": lambda life: life.disconnected(100.0),
    "reconnected": lambda life: life.reconnected(),
    "exited": lambda life: life.exited(3, "printed"),
    "lost": lambda life: life.lost("grace over"),
    "adopted": lambda life: life.adopted(),
}


def after(*names: str) -> Lifecycle:
    life = Lifecycle()
    for name in names:
        EVENTS[name](life)
    return life


BEGINNINGS = {
    "started": Lifecycle,
    "left": lambda: Lifecycle.left("another", 100.0),
    "attached": lambda: Lifecycle.of_another(100.0),
}


@given(st.sampled_from(sorted(BEGINNINGS)), st.lists(st.sampled_from(sorted(EVENTS))))
def test_invariants(beginning: str, names: list[str]) -> None:
    life, ended = BEGINNINGS[beginning](), None
    for name in names:
        EVENTS[name](life)
        if life.over and ended is None:
            ended = (life.state, life.exit_code, life.reason)
        assert (life.poll() is None) == (not life.over)
        assert (life.unreachable_since is not None) or life.state is not State.UNREACHABLE
        assert (life.unreachable_since is not None) or not life.unreachable
        assert life.adoption_pending or life.state is not State.UNADOPTED
        assert not (life.adoption_pending and life.serving)
    if ended is not None:  # the first end is the end
        assert (life.state, life.exit_code, life.reason) == ended


def test_a_network_failure_is_not_a_death() -> None:
    life = after("launched", "listening", "disconnected")
    assert life.state is State.UNREACHABLE
    assert life.poll() is None
    assert not life.serving
    EVENTS["reconnected"](life)
    assert life.serving


def test_reconnected_before_it_listened() -> None:
    assert after("launched", "disconnected", "reconnected").state is State.LAUNCHED
    assert after("launched", "disconnected", "listening", "reconnected").state is State.RUNNING


def test_grace_counts_from_the_loss() -> None:
    life = after("launched", "listening", "disconnected")
    assert life.grace_left(now=103.0, grace=10.0) == 7.0
    assert life.grace_left(now=200.0, grace=10.0) == 0.0
    assert after("launched", "listening").grace_left(0.0, 1.0) is None


def test_exit_while_unreachable_has_its_code() -> None:
    life = after("launched", "listening", "disconnected", "exited")
    assert (life.poll(), life.reason) == (3, "printed")
    assert life.grace_left(0.0, 1.0) is None


def test_lost_has_a_number_that_no_process_returns() -> None:
    assert after("launched", "lost").poll() == LOST_EXIT_CODE


def test_a_left_kernel_is_unreachable_until_it_is_adopted() -> None:
    life = Lifecycle.left("another", 100.0)
    assert life.poll() is None
    assert life.grace_left(103.0, 10.0) == 7.0
    for name in ("reconnected", "listening", "disconnected"):
        EVENTS[name](life)
        assert life.state is State.UNADOPTED
    life.adopted()
    assert life.serving
    assert not life.adoption_pending
    EVENTS["disconnected"](life)
    assert life.state is State.UNREACHABLE


def test_an_attached_kernel_is_another_servers_after_each_disconnection() -> None:
    life = Lifecycle.of_another(100.0)
    life.adopted()
    EVENTS["disconnected"](life)
    assert (life.state, life.adoption_pending) == (State.UNADOPTED, True)
    life.adopted()
    assert life.serving


def test_what_was_not_adopted_stays_so_when_it_is_lost_or_restarted() -> None:
    life = Lifecycle.left("another", 100.0)
    life.lost("grace over")
    assert life.adoption_pending
    again = life.restarted()
    assert (again.state, again.adoption_pending) == (State.STARTING, True)
    again.replaced()
    assert not again.adoption_pending
    assert not after("launched", "lost").restarted().adoption_pending
