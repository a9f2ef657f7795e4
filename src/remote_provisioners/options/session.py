"""The part of a connection that clients and kernel share: signing and encryption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import zmq

from .launch_request import SESSION_VARIABLE


def session_of(manager: Any, request_env: Mapping[str, str]) -> dict[str, Any]:
    """The session of a KernelManager's kernel. Without a manager it has no key."""
    session: dict[str, Any] = {
        "kernel_name": getattr(manager, "kernel_name", ""),
        "jupyter_session": request_env.get(SESSION_VARIABLE, ""),
    }
    if manager is None:
        return session
    session["key"] = manager.session.key.decode("ascii")
    session["signature_scheme"] = manager.session.signature_scheme
    policy = str(getattr(manager, "transport_encryption", "disabled"))
    wanted = policy == "required" or (
        policy == "auto" and manager._kernel_supports_curve_encryption()
    )
    if wanted:  # CurveZMQ end to end, within the tunnel
        if manager.curve_publickey is None:
            manager.curve_publickey, manager.curve_secretkey = zmq.curve_keypair()
        session["curve_publickey"] = manager.curve_publickey.decode("ascii")
        session["curve_secretkey"] = manager.curve_secretkey.decode("ascii")
    return session
