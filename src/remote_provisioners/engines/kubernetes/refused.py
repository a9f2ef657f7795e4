"""A request that Kubernetes' API refuses."""

from __future__ import annotations


class RefusedError(Exception):
    """The status and the message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
