"""Ends the requests whose replies were lost with a killed agent, with a notice.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Dict, List, Sequence

from ...protocol.unanswered_requests import Requests, headers
from ..output.gap_notice import message_of

#: The notice in the cell, and its error.
TEXT = (
    "the host's agent was killed, and this cell's reply is lost.\n"
    "The cell has ended, or it did not run. Some of its output may be missing"
)
_NOTHING = {
    "code": "",
    "silent": True,
    "store_history": False,
    "user_expressions": {},
    "allow_stdin": False,
    "stop_on_error": False,
}
_LOST: Dict[str, Any] = {
    "status": "error",
    "ename": "ReplyLost",
    "evalue": TEXT,
    "traceback": [],
    "execution_count": None,
}


class LostReplies:
    """Finds the requests of one client that no longer get a reply.

    A kernel sends no reply to a client that is not connected. So the reply of a cell that ends
    between a killed agent and the next one is lost. A kernel executes one request after the other:
    when it has executed an empty one, the earlier ones are over.
    """

    def __init__(
        self,
        connection: Dict[str, Any],
        requests: Sequence[str],
        on_lost: Callable[[bytes], None],
    ) -> None:
        """`requests`: their headers. `on_lost` is called with the header of each lost one."""
        self._connection = connection
        self._on_lost = on_lost
        self._id = os.urandom(16).hex()
        self.headers = [header.encode() for header in requests]
        #: The empty request, in wire format.
        self.question = message_of(
            connection, [], "execute_request", _NOTHING, b"{}", msg_id=self._id
        )

    def is_answer(self, message: bytes) -> bool:
        """Whether `message` is the reply to `question`."""
        return headers(message)[2].get("msg_id") == self._id

    def replies(self, unanswered: Requests) -> List[bytes]:
        """Replies for the cells among the requests that are still unanswered."""
        made = []
        for header in self.headers:
            if header in unanswered.headers.values() and _is_cell(header):
                made.append(message_of(self._connection, [], "execute_reply", _LOST, header))
                self._on_lost(header)
        return made


def _is_cell(header: bytes) -> bool:
    """Whether this is a cell. Clients repeat other requests. Subshells run theirs in parallel."""
    read = json.loads(header)
    return read.get("msg_type") == "execute_request" and not read.get("subshell_id")
