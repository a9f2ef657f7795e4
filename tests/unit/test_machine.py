"""A host's name that leads to several machines."""

from __future__ import annotations

import pytest

from remote_provisioners.hosts.machine import Machine, why_not

ONE, TWO = Machine("login1", "boot-1"), Machine("login2", "boot-2")


@pytest.mark.parametrize(
    ("found", "another"),
    [
        (TWO, True),
        (ONE, False),
        (Machine("login1", "boot-3"), False),  # rebooted
        (Machine("0123456789ab", "boot-1"), False),  # another container of the machine
        (Machine("login2", ""), False),
        (Machine("", "boot-2"), False),
        (Machine(), False),
    ],
)
def test_is_another(found: Machine, another: bool) -> None:
    assert ONE.is_another(found) is another
    assert found.is_another(ONE) is another


def test_the_machine_that_has_our_kernels_is_awaited() -> None:
    assert "leads to login2 now, but its kernels are on login1" in why_not({ONE}, TWO)
    assert why_not({ONE}, ONE) == ""
    assert why_not({ONE, TWO}, TWO) == ""  # it has some of them
    assert why_not({Machine()}, TWO) == ""
    assert why_not(set(), TWO) == ""


def test_why_a_kernel_is_gone() -> None:
    assert ONE.why_gone(TWO) == "it ran on login1, and the host's name leads to login2 now"
    assert ONE.why_gone(Machine("login1", "boot-3")) == "the host was rebooted"
    assert "removed its files" in ONE.why_gone(ONE)
    assert ONE.why_gone(ONE, "its reason") == "its reason"
    assert "rebooted, or its files removed" in Machine().why_gone(ONE)
