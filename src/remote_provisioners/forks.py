"""What a forked child must give up of its parent.

A program forks workers (multiprocessing does so on Linux), and a fork copies everything. A copy of
a locked descriptor would keep the lock when the parent is killed. A child cannot use its parent's
connections, so it must not use the parent's kernels.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterable
from typing import Protocol


class Forked(Protocol):
    """An object that a forked child must not use as its parent does."""

    def after_fork(self) -> None:
        """Give up what only the parent may use. Called in the child."""


_watched: weakref.WeakSet[Forked] = weakref.WeakSet()


def watch(one: Forked) -> None:
    """Call `after_fork` of this object in every process that is forked from this one."""
    _watched.add(one)


def close_in_child(descriptors: Iterable[int]) -> None:
    """Close descriptors in a child. The numbers, which objects still have, then mean /dev/null.

    If a child kept a connection open, it would outlive a killed parent, and the host would wait.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.dup2(null, descriptor, inheritable=False)
    os.close(null)


def _in_child() -> None:
    for one in list(_watched):
        one.after_fork()


os.register_at_fork(after_in_child=_in_child)
