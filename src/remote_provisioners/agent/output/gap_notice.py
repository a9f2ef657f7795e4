"""Our own messages among a kernel's output, signed with the kernel's key: gap notices where output
was dropped, and the welcome before replayed output.

https://jupyter-client.readthedocs.io/en/stable/messaging.html. Standard library only: this module
travels to hosts.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, List, Optional

from ...protocol import zmtp
from ...protocol.unanswered_requests import DELIMITER
from .gap import NO_PARENT, Gap, parent_of


def gap_notices(connection: Dict[str, Any], gap: Gap, following: Optional[bytes]) -> List[bytes]:
    """The notices in wire format, one for each cell that lost output, and the cell's last message
    about the kernel's state: without its "idle" a cell would never end.

    `following`, the message after the gap, says where to show what was of no cell. `connection`
    is the kernel's: its key signs.
    """
    notices = []
    for cell, count, status in gap.by_cell():
        parent = parent_of(following) if cell == NO_PARENT and following else cell
        missing = count - (status is not None)
        if missing:
            notices.append(_gap_notice(connection, missing, parent))
        if status is not None:
            notices.append(status)
    return notices


def _gap_notice(connection: Dict[str, Any], missing: int, parent: bytes) -> bytes:
    noun = "message of output is" if missing == 1 else "messages of output are"
    text = "[remote-provisioners: {} {} missing here: more than the host keeps]\n"
    content = {"name": "stderr", "text": text.format(missing, noun)}
    return message_of(connection, [b"stream.stderr"], "stream", content, parent)


def announcement(connection: Dict[str, Any], text: str, message: bytes) -> Optional[bytes]:
    """A text for the cell that `message` (execute_input) starts; None for other messages."""
    frames = zmtp.bodies(message)
    if not any(b'"execute_input"' in frame for frame in frames[:5]):
        return None
    content = {"name": "stderr", "text": "[remote-provisioners: {}]\n".format(text)}
    return message_of(connection, [b"stream.stderr"], "stream", content, parent_of(message))


def end_of_cell(connection: Dict[str, Any], text: str, parent: bytes) -> List[bytes]:
    """Messages that end a cell whose last messages are lost: a text, and "idle"."""
    content = {"name": "stderr", "text": "[remote-provisioners: {}]\n".format(text)}
    idle = {"execution_state": "idle"}
    return [
        message_of(connection, [b"stream.stderr"], "stream", content, parent),
        message_of(connection, [b"status"], "status", idle, parent),
    ]


def welcome(connection: Dict[str, Any], topic: bytes) -> bytes:
    """The welcome that confirms a subscription (JEP 65), as ipykernel sends it."""
    content = {"subscription": topic.decode("utf-8", "replace")}
    return message_of(connection, [topic] if topic else [], "iopub_welcome", content, b"{}")


def message_of(
    connection: Dict[str, Any],
    topic: List[bytes],
    kind: str,
    content: Dict[str, Any],
    parent: bytes,
    *,
    msg_id: str = "",
) -> bytes:
    """A message in wire format, signed. `parent`: a header as JSON."""
    header = {
        "msg_id": msg_id or os.urandom(16).hex(),
        "session": os.urandom(16).hex(),
        "username": "",
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "msg_type": kind,
        "version": "5.3",
    }
    parts = [
        json.dumps(header).encode("ascii"),
        parent,
        b"{}",
        json.dumps(content).encode("ascii"),
    ]
    signature = _sign(connection, parts)
    return zmtp.message([*topic, DELIMITER, signature, *parts])


def _sign(connection: Dict[str, Any], parts: Any) -> bytes:
    key = str(connection.get("key", "")).encode("utf-8")
    if not key:
        return b""
    scheme = str(connection.get("signature_scheme", "hmac-sha256"))
    import hmac  # noqa: PLC0415 (an agent starts without)

    signer = hmac.new(key, digestmod=scheme.partition("-")[2])
    for part in parts:
        signer.update(part)
    return signer.hexdigest().encode("ascii")
