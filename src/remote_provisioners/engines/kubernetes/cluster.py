"""The API of a Kubernetes cluster, by kubernetes_asyncio. Lives in the I/O thread.

The import of the package takes seconds. So a thread imports it: soon after the start of a server
that has a kernelspec for Kubernetes, otherwise when the first pod is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import AuthenticationError, ConfigurationError, HostError, UnreachableError
from ...hosts.registry import host_registry
from ...hosts.transport.pipe.transport import PipeTransport
from .refused import RefusedError
from .watch import PodWatch, broken

_SECONDS = 15.0
#: How soon we read the configuration again after a refused token.
_RENEW_SECONDS = 10.0
_MISSING = (
    "Kubernetes needs a package. Install it where the server runs:\n"
    "pip install 'remote-provisioners[kubernetes]'"
)


@dataclass(frozen=True)
class Access:
    """How to reach a cluster. If both are empty: the usual kubeconfig, or our own pod's account."""

    kubeconfig: str = ""
    context: str = ""


class UnknownUserError(AuthenticationError):
    """The cluster does not accept our token or certificate (401)."""


class Cluster:
    """One cluster. Methods raise HostError if it is unusable, RefusedError if it refuses."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._opening = asyncio.Lock()
        self._package: Any = None
        self._client: Any = None
        self._sockets: Any = None
        self._configuration: Any = None
        self._renewed = 0.0
        #: Clients with earlier certificates. Pipes into pods use them.
        self._former: list[Any] = []
        #: The namespace of the kubeconfig's context, or of our own pod.
        self.namespace = "default"
        #: By namespace.
        self._watches: dict[str, PodWatch] = {}
        #: Pipes into pods for the next `connect_pod`, by namespace and pod.
        self._early: dict[tuple[str, str], PipeTransport] = {}

    async def load(self) -> None:
        """Import the package, once. Raises ConfigurationError."""
        await asyncio.to_thread(package)

    async def ready(self) -> None:
        """Read the configuration, once. Raises ConfigurationError."""
        await self._open()

    # -- pods -------------------------------------------------------------------------------

    async def create(self, namespace: str, pod: dict[str, Any]) -> None:
        """Create a pod."""
        await self.ask("create_namespaced_pod", namespace, pod)

    async def read(self, namespace: str, name: str) -> dict[str, Any] | None:
        """A pod as the API gives it; None if there is none."""
        try:
            return await self.ask("read_namespaced_pod", name, namespace)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise HostError(f"Kubernetes does not describe the pod: {error.message}") from None

    async def delete(self, namespace: str, name: str) -> None:
        """Delete a pod at once. Does nothing if there is none."""
        try:
            await self.ask("delete_namespaced_pod", name, namespace, grace_period_seconds=0)
        except RefusedError as error:
            if error.status != 404:
                raise HostError(
                    f"Kubernetes does not delete the pod {name}: {error.message}"
                ) from None

    async def listed(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """The pods with these labels."""
        found = await self.ask("list_namespaced_pod", namespace, label_selector=selector)
        items: list[dict[str, Any]] = found.get("items") or []
        return items

    async def events(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """The events of a pod; empty if our account may not read them."""
        try:
            selector = f"involvedObject.name={name}"
            found = await self.ask("list_namespaced_event", namespace, field_selector=selector)
        except (RefusedError, HostError):
            return []
        items: list[dict[str, Any]] = found.get("items") or []
        return items

    def follow(self, namespace: str, name: str) -> AsyncIterator[dict[str, Any]]:
        """Yield a pod of this process now and after each change, until it is gone."""
        if namespace not in self._watches:
            self._watches[namespace] = PodWatch(self, namespace)
        return self._watches[namespace].follow(name)

    @property
    def address(self) -> str:
        """The address of the API server, once it is known."""
        return str(getattr(self._configuration, "host", "the cluster"))

    async def version(self) -> str:
        """The version of the API server."""
        answer = await self.ask("get_code", of="VersionApi")
        return str(answer.get("gitVersion", ""))

    async def forbidden(self, namespace: str, needed: Iterable[tuple[str, str]]) -> list[str]:
        """The verbs and resources of `needed` that our account may not use there."""
        missing = []
        for verb, name in needed:
            resource, _, part = name.partition("/")
            asked = {"namespace": namespace, "verb": verb, "resource": resource}
            asked |= {"subresource": part} if part else {}
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": asked},
            }
            method = "create_self_subject_access_review"
            answer = await self.ask(method, review, of="AuthorizationV1Api")
            if not (answer.get("status") or {}).get("allowed"):
                missing.append(f"{verb} {name}")
        return missing

    # -- programs in pods -------------------------------------------------------------------

    async def exec(self, namespace: str, name: str, container: str, argv: Sequence[str]) -> Any:
        """The web socket of a program in a pod. Raises HostError, RefusedError."""
        return await self._as_known(lambda: self._exec(namespace, name, container, argv))

    async def _exec(self, namespace: str, name: str, container: str, argv: Sequence[str]) -> Any:
        api = self._package.client.CoreV1Api(self._sockets)
        asked = await api.connect_get_namespaced_pod_exec(
            name,
            namespace,
            command=list(argv),
            container=container,
            stdin=True,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
        )
        try:
            return await asyncio.wait_for(asked, _SECONDS)
        except Exception as error:
            raise self._translated(error) from None

    def keep_pipe(self, namespace: str, name: str, pipe: PipeTransport) -> None:
        """Keep an open pipe into a pod for the next `connect_pod`."""
        self._early[namespace, name] = pipe

    def take_pipe(self, namespace: str, name: str) -> PipeTransport | None:
        """Take the kept pipe into a pod, if there is one."""
        return self._early.pop((namespace, name), None)

    # -- requests ---------------------------------------------------------------------------

    async def ask(self, method: str, *words: Any, **options: Any) -> dict[str, Any]:
        """Send a request. Returns the JSON of the answer."""
        response = await self.request(method, *words, _request_timeout=_SECONDS, **options)
        try:
            found: dict[str, Any] = json.loads(await response.read())
            return found
        except broken() as error:
            raise UnreachableError(f"Kubernetes' API stopped within its answer: {error}") from None

    async def request(self, method: str, *words: Any, of: str = "CoreV1Api", **options: Any) -> Any:
        """Send a request. Returns the answer; its content has not been read."""
        return await self._as_known(lambda: self._request(of, method, *words, **options))

    async def _request(self, of: str, method: str, *words: Any, **options: Any) -> Any:
        api = getattr(self._package.client, of)(self._client)
        try:
            response = await getattr(api, method)(*words, _preload_content=False, **options)
        except Exception as error:
            raise self._translated(error) from None
        if response.status >= 400:
            body = await response.read()
            raise self._refused(response.status, body.decode("utf-8", "replace"))
        return response

    async def _as_known(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Return the answer of `ask`. After a 401, read the configuration again and ask once more:
        a token has expired, or the user has logged in again.
        """
        await self._open()
        token = self._token
        try:
            return await ask()
        except UnknownUserError:
            await self._renew(token)
            return await ask()

    def _translated(self, error: Exception) -> Exception:
        """The error of a request, as one of ours."""
        status = getattr(error, "status", None)
        if isinstance(status, int) and status >= 300:
            said = getattr(error, "body", None) or getattr(error, "message", "") or str(error)
            return self._refused(status, str(said))
        if isinstance(error, (OSError, asyncio.TimeoutError)) or type(error).__module__.startswith(
            "aiohttp"
        ):
            why = str(error) or "no answer in time"
            return UnreachableError(
                f"Kubernetes' API at {self.address} does not answer:\n{why}\n"
                "Is the cluster up, and is the option `kubeconfig` right?"
            )
        return error

    def _refused(self, status: int, body: str) -> Exception:
        message = body
        with contextlib.suppress(ValueError, AttributeError):
            message = str(json.loads(body).get("message") or body)
        if status == 401:
            return UnknownUserError(
                "Kubernetes does not know us (401): the token or certificate is not valid.\n"
                "Log in again, or correct the option `kubeconfig`."
            )
        if status == 403 and "exceeded quota" not in message and "forbidden:" in message:
            return AuthenticationError(
                f"Kubernetes forbids it: {message}\n"
                "Give the server's account the Role in docs/kubernetes.md."
            )
        return RefusedError(status, " ".join(message.split())[:500])

    # -- opening and closing ----------------------------------------------------------------

    async def _open(self) -> None:
        """Make the clients, once. Raises ConfigurationError."""
        async with self._opening:
            if self._client is None:
                self._package = await asyncio.to_thread(package)
                self._make_clients(await self._configured())

    def _make_clients(self, configuration: Any) -> None:
        stream = importlib.import_module("kubernetes_asyncio.stream")
        self._client = self._package.client.ApiClient(configuration)
        self._sockets = stream.WsApiClient(configuration, heartbeat=20.0)
        self._configuration = configuration

    @property
    def _token(self) -> str:
        return str(self._configuration.api_key.get("BearerToken", ""))

    async def _renew(self, refused: str) -> None:
        """Read the configuration again. `refused`: the token that the cluster did not accept.

        Raises AuthenticationError.
        """
        async with self._opening:
            now = time.monotonic()
            if self._token != refused or now - self._renewed < _RENEW_SECONDS:
                return
            self._renewed = now
            try:
                read = await self._configured()
            except ConfigurationError as error:
                raise AuthenticationError(error.message) from None
            if read.cert_file or read.host != self._configuration.host:
                self._former += [self._client, self._sockets]
                self._make_clients(read)
            else:  # the clients read the token for each request
                self._configuration.api_key = read.api_key
                self._configuration.refresh_api_key_hook = read.refresh_api_key_hook

    async def _configured(self) -> Any:
        config, access = self._package.config, self._access
        configuration = self._package.client.Configuration()
        inside = not access.kubeconfig and not access.context and _in_cluster()
        try:
            if inside:
                config.load_incluster_config(client_configuration=configuration)
                self.namespace = await asyncio.to_thread(_own_namespace)
            else:
                loader = await config.load_kube_config(
                    config_file=access.kubeconfig or None,
                    context=access.context or None,
                    client_configuration=configuration,
                    persist_config=False,
                )
                found = getattr(loader, "current_context", None) or {}
                self.namespace = str((found.get("context") or {}).get("namespace") or "default")
        except Exception as error:  # a damaged file can cause any error
            raise ConfigurationError(
                f"cannot read how to reach Kubernetes: {error}\n"
                "Set the option `kubeconfig` (and `kube_context`), or run the server in a pod."
            ) from None
        return configuration

    async def close(self) -> None:
        """Close the connections."""
        for watch in self._watches.values():
            watch.close()
        for pipe in self._early.values():
            pipe.abort()
        for client in (self._client, self._sockets, *self._former):
            if client is not None:
                await client.close()


def _own_namespace() -> str:
    """The namespace of our own pod."""
    with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace") as file:
        return file.read().strip()


def _in_cluster() -> bool:
    """Whether this process runs in a pod with an account, and has no kubeconfig of its own."""
    usual = os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105
    return os.path.exists(token) and not os.path.exists(usual)


def package() -> Any:
    """kubernetes_asyncio. Raises ConfigurationError if it is not installed."""
    try:
        importlib.import_module("kubernetes_asyncio.client")
        importlib.import_module("kubernetes_asyncio.config")
        return importlib.import_module("kubernetes_asyncio")
    except ImportError:
        raise ConfigurationError(_MISSING) from None


class Clusters:
    """The clusters of this process."""

    def __init__(self) -> None:
        self._clusters: dict[Access, Cluster] = {}

    def get(self, access: Access) -> Cluster:
        return self._clusters.setdefault(access, Cluster(access))

    async def close(self) -> None:
        for cluster in self._clusters.values():
            await cluster.close()


async def cluster_of(access: Access) -> Cluster:
    """The cluster, for this process. The registry closes it, after the hosts."""
    return (await host_registry()).beside(Clusters).get(access)
