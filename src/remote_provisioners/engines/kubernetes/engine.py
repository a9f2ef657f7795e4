"""Kubernetes as an engine: a pod for each kernel, reached with the API's exec."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import AuthenticationError, HostError, KernelStartError
from ...hosts.transport.pipe.start import NotOpened
from ...placement.host_address import HostAddress
from ...user import user_and_machine
from ..base import POLL_SECONDS, Engine, Launch, Node, Progress
from ..main_process import main_process
from .address import PodAddress
from .cluster import Access, Cluster, cluster_of
from .connection import open_early
from .ends import why_ended
from .pod import MANAGER, SELECTOR, PodOptions, kernel_container, manifest, read_state
from .refused import RefusedError
from .watch import LABEL, PROCESS

log = logging.getLogger(__name__)

#: Any server deletes pods that completed so long ago and that no server has deleted.
_LEFT_SECONDS = 3600.0
_DELETE_SECONDS = 20.0
#: How long to wait for the early pipe into a pod that is known to run.
_OPEN_SECONDS = 2.0
#: Those in progress: the thread's end cancels them.
_sweeps: set[asyncio.Task[None]] = set()
#: The verbs and resources that the account needs.
_NEEDED = (
    *((verb, "pods") for verb in ("create", "get", "list", "watch", "delete")),
    ("create", "pods/exec"),
    ("get", "pods/exec"),
)


@dataclass(frozen=True)
class PodNode(Node):
    """A pod. `host` is its name."""

    namespace: str = ""
    container: str = ""
    kubeconfig: str = ""
    context: str = ""

    @property
    def address(self) -> HostAddress:
        return PodAddress(
            self.host,
            namespace=self.namespace,
            container=self.container,
            kubeconfig=self.kubeconfig,
            context=self.context,
        )


class KubernetesEngine(Engine):
    """Kubernetes for one kernelspec."""

    name = "Kubernetes"
    node_type = PodNode
    node_stays = True

    def __init__(
        self, access: Access, options: PodOptions, namespace: str = "", python: str = ""
    ) -> None:
        """`namespace`: empty for that of the kubeconfig's context or of our own pod."""
        self._access = access
        self._options = options
        self._namespace = namespace
        self._python = python
        #: The pod as it was seen last, while `submit` follows it.
        self._seen: dict[str, Any] | None = None
        self._following = False
        self._news = asyncio.Event()

    async def _cluster(self) -> tuple[Cluster, str]:
        """The cluster, and the namespace of our pods."""
        cluster = await cluster_of(self._access)
        await cluster.ready()
        return cluster, self._namespace or cluster.namespace

    async def prepare(self) -> None:
        await (await cluster_of(self._access)).load()

    async def check(self) -> None:
        await self._cluster()

    async def submit(self, launch: Launch) -> asyncio.Future[Node]:
        cluster, namespace = await self._cluster()
        labels = {
            "kernel": launch.request.kernel_id,
            "user": launch.request.request_env.get("KERNEL_USERNAME", ""),
            LABEL: PROCESS,
        }
        command = main_process(self._python, launch.request)
        pod = manifest(self._options, launch.tag, command, labels)
        server = user_and_machine()
        pod["metadata"].setdefault("annotations", {})[f"{MANAGER}/server"] = server
        container = str(kernel_container(pod)["name"])
        self._following = True
        try:
            await cluster.create(namespace, pod)
        except RefusedError as error:
            raise KernelStartError(_refused(error, namespace)) from None
        node = PodNode(
            launch.tag,
            "",
            self._python,
            "",
            namespace=namespace,
            container=container,
            kubeconfig=self._access.kubeconfig,
            context=self._access.context,
        )
        return asyncio.ensure_future(self._arrival(cluster, node))

    async def _arrival(self, cluster: Cluster, node: PodNode) -> Node:
        """The node, when its container runs. `follow` reports its end."""
        sweep = asyncio.ensure_future(_sweep(cluster, node.namespace))
        _sweeps.add(sweep)
        sweep.add_done_callback(_sweeps.discard)
        placed = asyncio.Event()
        running = asyncio.ensure_future(self._until_running(cluster, node, placed))
        opened = asyncio.ensure_future(_open_early(cluster, node, placed))
        try:
            await asyncio.wait([running, opened], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await asyncio.wait([opened], timeout=_OPEN_SECONDS)
            elif opened.result():
                return node
            await running
            return node
        finally:
            self._following = False
            for task in (running, opened):
                task.cancel()
            await asyncio.wait([running, opened])

    async def _until_running(self, cluster: Cluster, node: PodNode, placed: asyncio.Event) -> None:
        """Follow the pod until its container runs. Sets `placed` when it has a node."""
        async for pod in cluster.follow(node.namespace, node.host):
            self._seen = pod
            self._news.set()
            if (pod.get("spec") or {}).get("nodeName"):
                placed.set()
            if read_state(pod).running:
                return
        self._following = False  # the pod is gone: `follow` asks the API why
        self._news.set()
        await asyncio.Event().wait()

    async def follow(self, tag: str) -> Progress | None:
        pod: Mapping[str, Any] | None = self._seen
        if not self._following:
            cluster, namespace = await self._cluster()
            pod = await cluster.read(namespace, tag)
            if pod is None:
                return Progress(tag, over=True)
        if pod is None:
            return None
        state = read_state(pod)
        text = f"the pod {tag} {state.text}" if state.text.startswith(("waits", "starts")) else ""
        text = text or (f"the pod {tag}: {state.text}" if state.text else "")
        return Progress(tag, text, over=bool(state.end))

    async def changed(self, tag: str) -> None:
        if not self._following:
            await asyncio.sleep(POLL_SECONDS)
            return
        await self._news.wait()
        self._news.clear()

    async def cancel(self, tag: str) -> None:
        """Delete the pod, and wait until it is gone."""
        cluster, namespace = await self._cluster()
        if early := cluster.take_pipe(namespace, tag):
            early.abort()
        await cluster.delete(namespace, tag)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _DELETE_SECONDS
        while await cluster.read(namespace, tag) is not None:
            if loop.time() > deadline:
                raise HostError(f"Kubernetes has not deleted the pod {tag} yet")
            await asyncio.sleep(POLL_SECONDS)

    async def diagnose(self, tag: str) -> str:
        cluster, namespace = await self._cluster()
        return f"the pod {tag} has ended: {await why_ended(cluster, namespace, tag)}"

    def checks(self) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
        async def api() -> str:
            cluster, _ = await self._cluster()
            return f"Kubernetes {await cluster.version()} answers at {cluster.address}"

        async def account() -> str:
            cluster, namespace = await self._cluster()
            missing = await cluster.forbidden(namespace, _NEEDED)
            if missing:
                raise AuthenticationError(
                    f"in the namespace {namespace}, the account may not {', '.join(missing)}.\n"
                    "Give it the Role in docs/kubernetes.md."
                )
            return f"the account has all rights that it needs in the namespace {namespace}"

        return [("api", api), ("account", account)]


async def _open_early(cluster: Cluster, node: PodNode, placed: asyncio.Event) -> bool:
    """Open a pipe into the pod as soon as it runs. Returns False if that is not possible."""
    await placed.wait()
    address = node.address
    assert isinstance(address, PodAddress)
    try:
        await open_early(cluster, address, node.python or "python3")
    except (HostError, NotOpened) as error:  # the later connection reports the error
        log.debug("pod %s: no early pipe: %r", node.host, error)
        return False
    return True


def _refused(error: RefusedError, namespace: str) -> str:
    if "exceeded quota" in error.message:
        return f"the namespace {namespace} has no room: {error.message}"
    if error.status == 404:
        return f"Kubernetes has no namespace {namespace}: {error.message}"
    return f"Kubernetes refuses the pod: {error.message}"


async def _sweep(cluster: Cluster, namespace: str) -> None:
    """Delete completed pods of ours whose server never came back."""
    now = datetime.datetime.now(datetime.timezone.utc)
    with contextlib.suppress(RefusedError, HostError):
        for pod in await cluster.listed(namespace, SELECTOR):
            phase = (pod.get("status") or {}).get("phase")
            ended = _ended_at(pod)
            if phase not in ("Succeeded", "Failed") or ended is None:
                continue
            if (now - ended).total_seconds() > _LEFT_SECONDS:
                name = pod["metadata"]["name"]
                log.info("deleting the pod %s, which ended at %s", name, ended)
                await cluster.delete(namespace, name)


def _ended_at(pod: Mapping[str, Any]) -> datetime.datetime | None:
    """When the last container of a pod has ended."""
    moments = []
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        finished = ((status.get("state") or {}).get("terminated") or {}).get("finishedAt")
        if finished:
            moments.append(datetime.datetime.fromisoformat(finished.replace("Z", "+00:00")))
    return max(moments, default=None)
