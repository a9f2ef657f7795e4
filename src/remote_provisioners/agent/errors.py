"""Why the agent refuses a request.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import errno

from ..protocol.answers import CANNOT_START, HOST_FULL


class RefusedError(Exception):
    """The agent refuses a request; `code` is one of those in protocol/answers.py."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def start_error(error: OSError) -> RefusedError:
    """Why a start failed."""
    code = HOST_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else CANNOT_START
    where = " ({})".format(error.filename) if error.filename else ""
    return RefusedError(code, "{}{}".format(error.strerror or error, where))
