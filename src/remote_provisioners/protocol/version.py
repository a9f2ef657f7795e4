"""The version of the protocol, and the rule for different versions.

The rule: *the newer side knows both versions, so the newer side adapts or refuses.*

- ``hello`` contains the server's version, and its answer the agent's. A side without a version has
  version 0 (releases 0.1).
- An older side serves every peer. It ignores unknown fields and events, and refuses unknown
  operations (``bad-request``).
- A newer side sends everything in the form that the older side needs, and works without fields that
  the older side does not send: each later field has a default, which means the older behaviour.
- To refuse older versions, raise `OLDEST`. The error says which side is too old.
- A field never changes its meaning. A new meaning gets a new name, and `VERSION` is raised.

Different versions meet because kernels stay with the agent that started them as long as they run.
Standard library only: this module travels to hosts.
"""

from __future__ import annotations

#: Our version. Since 2, an agent acknowledges a start at once.
VERSION = 2
ACCEPTS = 2
#: The oldest compatible version.
OLDEST = 0


class VersionError(Exception):
    """The other side is too old."""


def agree(theirs: int, who: str) -> int:
    """The version that both sides know. `who` is the other side. Raises VersionError."""
    if theirs < OLDEST:
        text = "{} speaks version {} of the protocol, which is too old: {} is the oldest we know"
        raise VersionError(text.format(who, theirs, OLDEST))
    return min(theirs, VERSION)
