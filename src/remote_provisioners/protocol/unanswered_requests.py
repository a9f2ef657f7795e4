"""Which requests of a client have no reply yet. Learns it from the messages that pass. Pure.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, Tuple

from . import zmtp

DELIMITER = b"<IDS|MSG>"
#: If a client has sent more requests than this, the oldest are forgotten.
MOST = 1000


class Requests:
    """The requests of one client without a reply. Messages of comms and from stdin get none."""

    def __init__(self) -> None:
        #: The headers as the client wrote them, by the messages' ids.
        self.headers: Dict[str, bytes] = {}

    def __bool__(self) -> bool:
        return bool(self.headers)

    def add(self, headers: Iterable[bytes]) -> None:
        """Requests that were sent on an earlier connection."""
        for raw in headers:
            self._add(raw, _object(raw))

    def sent(self, message: bytes) -> None:
        """The client sends `message`, in wire format."""
        raw, header, _ = headers(message)
        self._add(raw, header)

    def _add(self, raw: bytes, header: Dict[str, Any]) -> None:
        if str(header.get("msg_type")).endswith("_request"):
            self.headers[str(header.get("msg_id"))] = raw
            if len(self.headers) > MOST:
                del self.headers[next(iter(self.headers))]

    def received(self, message: bytes) -> None:
        """The client gets `message`, in wire format."""
        _, header, parent = headers(message)
        if str(header.get("msg_type")).endswith("_reply"):
            self.headers.pop(str(parent.get("msg_id")), None)


def headers(message: bytes) -> Tuple[bytes, Dict[str, Any], Dict[str, Any]]:
    """The header of a Jupyter message, as written and read, and its parent's header. They are empty
    for other messages.
    """
    frames = zmtp.bodies(message, 12)
    try:
        start = frames.index(DELIMITER)
        raw, parent = frames[start + 2], frames[start + 3]
    except (ValueError, IndexError):
        return b"", {}, {}
    return raw, _object(raw), _object(parent)


def _object(text: bytes) -> Dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
