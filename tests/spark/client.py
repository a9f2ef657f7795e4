"""What tests ask kernels of any language."""

from __future__ import annotations

import time
from contextlib import suppress
from queue import Empty
from typing import Any

from ..conftest import Session


def kernel_id(session: Session) -> str:
    return str(session.manager.provisioner.kernel_id)


def reply_of(session: Session, request: str) -> dict[str, Any]:
    """The content of the reply to an execute request, once the kernel is idle again.

    Kernels abort what is sent between their reply to a cell that failed and that.
    """
    while True:
        reply = session.client.get_shell_msg(timeout=90)
        if reply["parent_header"].get("msg_id") == request:
            break
    while True:
        message = session.client.get_iopub_msg(timeout=20)
        idle = message["content"].get("execution_state") == "idle"
        if idle and message["parent_header"].get("msg_id") == request:
            content: dict[str, Any] = reply["content"]
            return content


def output(session: Session, code: str, *wanted: str) -> str:
    """All that `code` shows, as text; until one of `wanted` is in it, if that comes after its end.

    (Toree's results may come after the kernel is idle.)
    """
    shown: list[str] = []

    def collect(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream":
            shown.append(content["text"])
        elif message["msg_type"] == "error":
            shown.append(f"{content['ename']}: {content['evalue']}")
        elif "data" in content:
            shown.append(content["data"].get("text/plain", ""))

    session.client.execute_interactive(code, timeout=120, output_hook=collect, stop_on_error=False)
    while wanted and not any(each in "".join(shown) for each in wanted):
        try:
            collect(session.client.get_iopub_msg(timeout=20))
        except Empty:
            raise AssertionError(f"none of {wanted} is in {shown}") from None
    return "".join(shown)


def told(session: Session, wanted: str, seconds: float = 90) -> None:
    """Wait until the kernel publishes something with `wanted` in it."""
    published = ""
    deadline = time.monotonic() + seconds
    while wanted not in published:
        assert time.monotonic() < deadline, published
        with suppress(Empty):
            published += str(session.client.get_iopub_msg(timeout=1)["content"])
