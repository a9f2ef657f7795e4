"""The agent's log: its standard output. Standard library only: this module travels to hosts."""

from __future__ import annotations


def say(text: str) -> None:
    """Write a line. A failure (the disk is full) is ignored: the agent must go on."""
    try:
        print(text, flush=True)
    except OSError:
        pass
