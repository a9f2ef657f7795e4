"""The version of the protocol, and the rule by which two versions get on.

The rule: *the newer side knows both versions, so the newer side adapts, or refuses.*

- ``hello`` carries the server's version, its answer the agent's. Who carries none is of version 0,
  the releases 0.1.
- An older side serves whoever speaks to it. It passes over fields and events that it does not
  know, and refuses operations that it does not know (``bad-request``).
- A newer side sends nothing that the older one needs in another form, and does without what the
  older one does not send: each field that was added later has a default, which stands for what the
  older side does.
- A side that cannot do without refuses: it raises `OLDEST`. The error says which side is too old.
- A field never changes its meaning. What has to mean something else gets another name, and
  `VERSION` is raised.

Why they meet at all: kernels stay with the agent that has started them, for as long as they run.
Standard library only: this module travels to hosts.
"""

from __future__ import annotations

#: Ours. Since 2 an agent says at once that a start has arrived.
VERSION = 2
ACCEPTS = 2
#: The oldest that we get on with.
OLDEST = 0


class VersionError(Exception):
    """The other side is too old."""


def agree(theirs: int, who: str) -> int:
    """The version that both know. Raises VersionError; `who` is the other side."""
    if theirs < OLDEST:
        text = "{} speaks version {} of the protocol, which is too old: {} is the oldest we know"
        raise VersionError(text.format(who, theirs, OLDEST))
    return min(theirs, VERSION)
