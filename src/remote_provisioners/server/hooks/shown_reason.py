"""Shows in a kernel's manager why the kernel has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...kernels.failure import death_text
from ...kernels.lifecycle import Lifecycle
from .kernel import keep_dead


class ShownReason:
    """Why a kernel has ended, where jupyter_server's API shows it: its manager's `reason`."""

    def __init__(self) -> None:
        self._text = ""
        #: Allows the manager's automatic restarts again; None while they are allowed.
        self._let_restart: Callable[[], None] | None = None

    def show(self, manager: Any, life: Lifecycle) -> None:
        """Show the reason. The provisioner calls this whenever somebody asks for its state."""
        if life.node_ended and self._let_restart is None:
            self._let_restart = keep_dead(manager, life.reason)
        elif not life.over and self._let_restart is not None:
            self._let_restart()
            self._let_restart = None
        said = getattr(manager, "reason", None)
        if said is not None and said in ("", self._text):
            dead = life.poll() not in (None, 0)
            self._text = manager.reason = death_text(life.exit_code, life.reason) if dead else ""
