"""The agent's log: its standard output. Standard library only: this module travels to hosts."""

from __future__ import annotations


def say(text: str) -> None:
    """Write a line. Where the disk is full, to go on is worth more than to say so."""
    try:
        print(text, flush=True)
    except OSError:
        pass
