"""Why the agent refuses a request.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations


class RefusedError(Exception):
    """The agent refuses a request; `code` is one of those in protocol/answers.py."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
