"""The keeper of an application's records of kernels. Provisioners tell it of each start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from weakref import WeakKeyDictionary


class Keeper(Protocol):
    """Keeps records for an application. Provisioners call it on the application's loop."""

    def starts(self, kernel_manager: Any, info: Mapping[str, Any]) -> None:
        """A host is about to get a start request."""

    def failed(self, kernel_id: str) -> None:
        """The start failed, and nothing is left of the kernel."""

    def runs(self, kernel_manager: Any, info: Mapping[str, Any]) -> None:
        """The kernel has started or restarted."""


_keepers: WeakKeyDictionary[Any, Keeper] = WeakKeyDictionary()


def keep(multi_kernel_manager: Any, keeper: Keeper) -> None:
    """Register `keeper` for the kernels of a manager."""
    _keepers[multi_kernel_manager] = keeper


def keeper_of(kernel_manager: Any) -> Keeper | None:
    """The keeper for a kernel manager's kernels, or None."""
    manager = getattr(kernel_manager, "parent", None)
    return None if manager is None else _keepers.get(manager)
