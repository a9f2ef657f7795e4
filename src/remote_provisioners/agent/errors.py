"""Why the agent refuses a request.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations


class RefusedError(Exception):
    """A request is refused; `code` is one of protocol/answers.py."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
