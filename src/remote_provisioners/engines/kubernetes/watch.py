"""Follow the pods of this process with one request for each namespace.

With a request for each pod, a hundred pods would take all connections of the client, and all other
requests would wait.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import secrets
from collections.abc import AsyncIterator
from typing import Any, Protocol

from ...errors import AuthenticationError, HostError, RemoteProvisionerError
from .pod import MANAGER
from .refused import RefusedError

log = logging.getLogger(__name__)

#: How long one request follows the pods.
_WATCH_SECONDS = 240
_AGAIN_SECONDS = 1.0
#: The label of our pods, and its value for this process.
LABEL = "process"
PROCESS = secrets.token_hex(8)

Pod = dict[str, Any]


def broken() -> tuple[type[Exception], ...]:
    """The errors of an answer that breaks off."""
    aiohttp = importlib.import_module("aiohttp")  # comes with Kubernetes' package
    return (aiohttp.ClientError, OSError, ValueError, asyncio.TimeoutError)


class Api(Protocol):
    """What a PodWatch needs of a cluster. Both raise RefusedError, HostError."""

    async def ask(self, method: str, *words: Any, **options: Any) -> Pod:
        """Send a request. Returns the JSON of the answer."""

    async def request(self, method: str, *words: Any, **options: Any) -> Any:
        """Send a request. Returns the answer; its content has not been read."""


class PodWatch:
    """The pods of this process in one namespace."""

    def __init__(self, cluster: Api, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._selector = f"{MANAGER}/{LABEL}={PROCESS}"
        #: News for the follower of each pod: a state, None when the pod is gone, or an error.
        self._followers: dict[str, asyncio.Queue[Pod | RemoteProvisionerError | None]] = {}
        self._latest: dict[str, Pod] = {}
        self._task: asyncio.Task[None] | None = None

    async def follow(self, name: str) -> AsyncIterator[Pod]:
        """Yield a pod now and after each change, until it is gone. One caller for each pod.

        Raises AuthenticationError.
        """
        news = self._followers[name] = asyncio.Queue()
        if name in self._latest:
            news.put_nowait(self._latest[name])
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())
        try:
            while (pod := await news.get()) is not None:
                if isinstance(pod, RemoteProvisionerError):
                    raise pod
                yield pod
        finally:
            del self._followers[name]
            if not self._followers:
                self.close()

    def close(self) -> None:
        """Stop. The next `follow` starts the request again."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._latest.clear()

    async def _run(self) -> None:
        while True:
            try:
                await self._watch(await self._list())
            except AuthenticationError as error:
                for news in self._followers.values():
                    news.put_nowait(error)
            except (RefusedError, HostError):  # launch_timeout ends a start that waits too long
                pass
            except broken():
                pass
            except Exception:  # an answer may be anything, such as a proxy's
                log.exception("namespace %s: cannot read what the API says", self._namespace)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _list(self) -> str:
        """Ask for all pods. Returns the version of the answer."""
        asked = set(self._followers)
        found = await self._cluster.ask(
            "list_namespaced_pod", self._namespace, label_selector=self._selector
        )
        present = {pod["metadata"]["name"]: pod for pod in found.get("items") or []}
        for pod in present.values():
            self._tell(pod)
        for name in (asked | set(self._latest)) - set(present):
            self._forget(name)
        return str(found["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> None:
        """Follow the changes after that version, until the request ends."""
        response = await self._cluster.request(
            "list_namespaced_pod",
            self._namespace,
            label_selector=self._selector,
            resource_version=version,
            watch=True,
            timeout_seconds=_WATCH_SECONDS,
            _request_timeout=_WATCH_SECONDS + 30,
        )
        try:
            while line := await response.content.readline():
                event = json.loads(line)
                if event.get("type") in ("ADDED", "MODIFIED"):
                    self._tell(event["object"])
                elif event.get("type") == "DELETED":
                    self._forget(event["object"]["metadata"]["name"])
                else:  # the version is too old
                    return
        finally:
            response.close()

    def _tell(self, pod: Pod) -> None:
        name = pod["metadata"]["name"]
        self._latest[name] = pod
        if name in self._followers:
            self._followers[name].put_nowait(pod)

    def _forget(self, name: str) -> None:
        self._latest.pop(name, None)
        if name in self._followers:
            self._followers[name].put_nowait(None)
