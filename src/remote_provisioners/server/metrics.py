"""What Prometheus is told, with the rest of a Jupyter server's ``/metrics``."""

from __future__ import annotations

import threading
from collections import Counter as Count
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .. import errors
from ..events import (
    Event,
    HostChanged,
    HostForgotten,
    KernelChanged,
    KernelForgotten,
    KernelMoved,
    OutputDropped,
    Phase,
    StartProgress,
    events,
)
from ..hosts.host import Host
from ..kernels.remote_kernel import RemoteKernel
from ..placement.host_address import HostAddress
from .view.models import host_state

_PREFIX = "remote_provisioners"
#: A warm kernel takes 20 ms, a driver of Spark a minute.
_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
_OUTCOMES = {Phase.READY: "ready", Phase.FAILED: "failed", Phase.CANCELLED: "cancelled"}
_KINDS, _WAYS = ("start", "restart"), ("forked", "warm", "spawned")
_CAUSES = {
    "failed": sorted(
        name
        for name, found in vars(errors).items()
        if isinstance(found, type) and issubclass(found, errors.RemoteProvisionerError)
    ),
    "cancelled": [errors.StartCancelledError.__name__],
}


class Metrics(Collector):
    """Counts what is told in the I/O thread; read when somebody asks for ``/metrics``."""

    def __init__(self) -> None:
        self._hosts: dict[HostAddress, Host] = {}
        self._connected: dict[HostAddress, bool] = {}
        self._kernels: dict[str, RemoteKernel] = {}
        #: Bytes to and from the kernels that are gone, by host.
        self._gone: Count[tuple[str, str]] = Count()
        self._lock = threading.Lock()
        self._starts = Counter(
            f"{_PREFIX}_starts",
            "Starts of kernels by outcome; cause is the kind of error.",
            ["kind", "outcome", "cause"],
            registry=None,
        )
        self._seconds = Histogram(
            f"{_PREFIX}_start_seconds",
            "Seconds from the request of a kernel until it listens, by the kind of its process.",
            ["kind", "way"],
            buckets=_BUCKETS,
            registry=None,
        )
        self._reconnections = Counter(
            f"{_PREFIX}_reconnections", "Reconnections.", ["host"], registry=None
        )
        self._dropped = Counter(
            f"{_PREFIX}_output_dropped_messages",
            "Messages of kernels that were dropped.",
            ["host"],
            registry=None,
        )

        self._begin_with_zero()

    def _begin_with_zero(self) -> None:
        """Prometheus sees no increase in a series that begins with 1, so what can be counted is
        there from the beginning."""
        for kind in _KINDS:
            for way in _WAYS:
                self._seconds.labels(kind, way)
            self._starts.labels(kind, "ready", "")
            for outcome in ("failed", "cancelled"):
                for cause in _CAUSES[outcome]:
                    self._starts.labels(kind, outcome, cause)

    def follow(self) -> None:
        """Begin to count, and be part of ``/metrics``."""
        events.listen(self.count)
        REGISTRY.register(self)

    def count(self, event: Event) -> None:
        """Count an event of this process."""
        if isinstance(event, StartProgress):
            self._start(event)
        elif isinstance(event, HostChanged):
            self._host(event.host)
        elif isinstance(event, HostForgotten):
            self._forget(event.host)
        elif isinstance(event, OutputDropped):
            self._dropped.labels(event.kernel.spec.name).inc(event.messages)
        else:
            self._kernel(event)

    def _start(self, event: StartProgress) -> None:
        outcome = _OUTCOMES.get(event.phase)
        if outcome is None:
            return
        cause = "" if event.error is None else type(event.error).__name__
        self._starts.labels(event.kind, outcome, cause).inc()
        if event.phase is Phase.READY:
            self._seconds.labels(event.kind, event.way or "unknown").observe(event.seconds)

    def _host(self, host: Host) -> None:
        with self._lock:
            self._hosts[host.address] = host
            self._reconnections.labels(host.name)
            self._dropped.labels(host.name)
            before = self._connected.get(host.address)
            if host.connected and before is False:
                self._reconnections.labels(host.name).inc()
            if host.connected or before is not None:  # the first connection is none made again
                self._connected[host.address] = host.connected

    def _forget(self, host: Host) -> None:
        """A container's figures go with it. Each kernel may have a container of its own."""
        with self._lock:
            if self._hosts.get(host.address) is not host:
                return
            del self._hosts[host.address]
            self._connected.pop(host.address, None)
            self._reconnections.remove(host.name)
            self._dropped.remove(host.name)
            for direction in ("to", "from"):
                self._gone.pop((host.name, direction), None)

    def _kernel(self, event: KernelChanged | KernelMoved | KernelForgotten) -> None:
        kernel = event.kernel
        with self._lock:
            if not isinstance(event, KernelForgotten):
                self._kernels[kernel.kernel_id] = kernel
            elif self._kernels.get(kernel.kernel_id) is kernel:
                del self._kernels[kernel.kernel_id]
                there, back = kernel.client_sockets.traffic
                self._gone[kernel.spec.name, "to"] += there
                self._gone[kernel.spec.name, "from"] += back

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            hosts, kernels = list(self._hosts.values()), list(self._kernels.values())
            carried = Count(self._gone)
        states = Count(host_state(host) for host in hosts)
        yield _gauge("hosts", "Hosts by their state.", ["state"], _single(states))
        running = Count((kernel.spec.name, kernel.life.state.value) for kernel in kernels)
        yield _gauge("kernels", "Kernels by host and state.", ["host", "state"], running)
        trips = {(host.name,): host.round_trip for host in hosts if host.round_trip is not None}
        yield _gauge(
            "round_trip_seconds",
            "The round trip of the last request to each agent.",
            ["host"],
            trips,
        )
        for kernel in kernels:
            there, back = kernel.client_sockets.traffic
            carried[kernel.spec.name, "to"] += there
            carried[kernel.spec.name, "from"] += back
        family = CounterMetricFamily(
            f"{_PREFIX}_kernel_bytes",
            "Bytes to and from kernels.",
            labels=["host", "direction"],
        )
        for labels, value in carried.items():
            family.add_metric(list(labels), value)
        yield family
        for metric in (self._starts, self._seconds, self._reconnections, self._dropped):
            yield from metric.collect()


def _single(counts: Count[str]) -> dict[tuple[str, ...], float]:
    return {(name,): count for name, count in counts.items()}


def _gauge(
    name: str, text: str, labels: list[str], values: Mapping[Any, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
    for label, value in values.items():
        family.add_metric(list(label), value)
    return family
