"""Messages of our own among a kernel's output, signed as the kernel would: the text that stands
where output was dropped, and the welcome before output that is replayed.

https://jupyter-client.readthedocs.io/en/stable/messaging.html. Standard library only: this module
travels to hosts.
"""

from __future__ import annotations

import hmac
import json
import os
import time
from typing import Any, Dict, List, Optional

from ...protocol import zmtp

_DELIMITER = b"<IDS|MSG>"


def gap_notice(connection: Dict[str, Any], dropped: int, following: Optional[bytes]) -> bytes:
    """On the wire; `following` is the message after it, whose cell it is shown in.

    `connection` is the kernel's: its key signs.
    """
    noun = "message" if dropped == 1 else "messages"
    text = "[remote-provisioners: {} {} of output dropped here, which nobody listened to]\n"
    content = {"name": "stderr", "text": text.format(dropped, noun)}
    return _message(connection, [b"stream.stderr"], "stream", content, _parent(following))


def welcome(connection: Dict[str, Any], topic: bytes) -> bytes:
    """That the subscription is there (JEP 65), as ipykernel says it."""
    content = {"subscription": topic.decode("utf-8", "replace")}
    return _message(connection, [topic] if topic else [], "iopub_welcome", content, b"{}")


def _message(
    connection: Dict[str, Any],
    topic: List[bytes],
    kind: str,
    content: Dict[str, str],
    parent: bytes,
) -> bytes:
    header = {
        "msg_id": os.urandom(16).hex(),
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
    return zmtp.message([*topic, _DELIMITER, signature, *parts])


def _parent(following: Optional[bytes]) -> bytes:
    """The parent_header of a message; empty where that is none of Jupyter's."""
    frames = zmtp.bodies(following) if following is not None else []
    try:
        return frames[frames.index(_DELIMITER) + 3]
    except (ValueError, IndexError):
        return b"{}"


def _sign(connection: Dict[str, Any], parts: Any) -> bytes:
    key = str(connection.get("key", "")).encode("utf-8")
    if not key:
        return b""
    scheme = str(connection.get("signature_scheme", "hmac-sha256"))
    signer = hmac.new(key, digestmod=scheme.partition("-")[2])
    for part in parts:
        signer.update(part)
    return signer.hexdigest().encode("ascii")
