"""The conversations of clients that have left and may come back for answers.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import time
from typing import Dict, NamedTuple, Optional, Tuple

from ..kernels.hosted_kernel import HostedKernel
from .conversation import Conversation

#: The limits of one agent. At a limit, those that left first lose what was kept for them.
MOST_CLIENTS = 100
MOST_BYTES = 16 * 1024 * 1024
#: All channels of a client are here within this time after it has left.
_TOGETHER_SECONDS = 10.0

#: A kernel, a channel, and the client's identity.
Key = Tuple[HostedKernel, str, bytes]


class _Left(NamedTuple):
    conversation: Conversation
    since: float


class LeftConversations:
    """Keeps conversations until their clients come back, within limits."""

    def __init__(self) -> None:
        self._left: Dict[Key, _Left] = {}

    def __len__(self) -> int:
        return len(self._left)

    def keep(self, key: Key, conversation: Conversation) -> None:
        """The client has left; or its kernel has sent something since, or has ended."""
        _, channel, _ = key
        known = self._left.get(key)
        if not conversation.is_open or not (conversation.waits or channel == "stdin"):
            self._end(key, conversation)
            return
        if known is None or known.conversation is not conversation:
            if known is not None:
                known.conversation.end()
            self._left[key] = _Left(conversation, time.monotonic())
        self._fit()

    def take(self, key: Key) -> Optional[Conversation]:
        """The client is back: its conversation, if it goes on."""
        found = self._left.pop(key, None)
        if found is None:
            return None
        return found.conversation if found.conversation.is_open else None

    def drop(self, kernel: HostedKernel) -> None:
        """The kernel is forgotten, or another process takes its place."""
        for key in [key for key in self._left if key[0] is kernel]:
            self._left.pop(key).conversation.end()

    def close(self) -> None:
        for kept in self._left.values():
            kept.conversation.end()
        self._left.clear()

    def tidy(self) -> None:
        """End what nobody can need: stdin without a request for input, when no cell runs."""
        now = time.monotonic()
        others = [key for key in self._left if key[1] != "stdin"]
        running = {(kernel, identity) for kernel, _, identity in others}
        for key, kept in list(self._left.items()):
            kernel, channel, identity = key
            alone = channel == "stdin" and (kernel, identity) not in running
            if alone and not kept.conversation.missed and now - kept.since > _TOGETHER_SECONDS:
                self._end(key, kept.conversation)

    def _fit(self) -> None:
        while len(self._left) > MOST_CLIENTS:
            self._left.pop(next(iter(self._left))).conversation.end()
        total = sum(kept.conversation.size for kept in self._left.values())
        for key, kept in list(self._left.items()) if total > MOST_BYTES else ():
            conversation = kept.conversation
            while total > MOST_BYTES and conversation.missed:
                before = conversation.size
                conversation.forget_oldest()
                total -= before - conversation.size
            if not conversation.waits:
                self._end(key, conversation)

    def _end(self, key: Key, conversation: Conversation) -> None:
        known = self._left.get(key)
        if known is not None and known.conversation is conversation:
            del self._left[key]
        conversation.end()
