"""One request follows the pods of a namespace, also after its answer breaks off."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from remote_provisioners.engines.kubernetes import watch as module
from remote_provisioners.engines.kubernetes.watch import PodWatch


class BreaksOff:
    """An API that answers with the pods at once, and stops in the middle of a watch."""

    def __init__(self, *phases: str, ends_with: bytes = b"") -> None:
        """`ends_with`: what it says in place of an end."""
        self._phases = list(phases)
        self._ends_with = ends_with
        self.content = self

    async def ask(self, method: str, *words: Any, **options: Any) -> dict[str, Any]:
        pod = {"metadata": {"name": "one"}, "status": {"phase": self._phases.pop(0)}}
        return {"metadata": {"resourceVersion": "1"}, "items": [pod]}

    async def request(self, method: str, *words: Any, **options: Any) -> BreaksOff:
        return self

    async def readline(self) -> bytes:
        if not self._phases:
            await asyncio.Event().wait()
        if self._ends_with:
            return self._ends_with
        raise aiohttp.ClientPayloadError("Response payload is not completed")

    def close(self) -> None:
        pass


@pytest.mark.parametrize("line", [b"", b"[]\n", b'{"type": "ADDED", "object": {"kind": "?"}}\n'])
def test_an_answer_that_breaks_off_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    """So is one that is no answer of Kubernetes: the pods are followed all the same."""
    monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.0)

    async def follow() -> list[str]:
        pods = PodWatch(BreaksOff("Pending", "Running", ends_with=line), "lab").follow("one")
        seen = [(await anext(pods))["status"]["phase"] for _ in range(2)]
        await pods.aclose()  # type: ignore[attr-defined]
        return seen

    assert asyncio.run(asyncio.wait_for(follow(), 5)) == ["Pending", "Running"]
