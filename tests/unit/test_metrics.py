"""What Prometheus is told has the names that the dashboard and its page use."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

from remote_provisioners.engines.docker.address import ContainerAddress
from remote_provisioners.events import events
from remote_provisioners.hosts.registry import HostRegistry
from remote_provisioners.placement.host_address import HostAddress
from remote_provisioners.placement.inventory import HostSpec
from remote_provisioners.server.metrics import Metrics

DOCS = Path(__file__).parents[2] / "docs"


def names() -> set[str]:
    """As Prometheus has them: with the suffix of counters."""
    suffixes = {"counter": "_total"}
    return {family.name + suffixes.get(family.type, "") for family in Metrics().collect()}


def test_every_metric_is_on_the_dashboard_and_no_other() -> None:
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    queries = " ".join(t["expr"] for panel in dashboard["panels"] for t in panel["targets"])
    shown = {
        name.removesuffix("_bucket") for name in re.findall(r"remote_provisioners_\w+", queries)
    }
    assert shown == names()


def test_every_metric_is_described() -> None:
    text = (DOCS / "jupyterlab.md").read_text()
    assert set(re.findall(r"`(remote_provisioners_\w+)`", text)) >= names()


def samples(metrics: Metrics, host: str) -> list[str]:
    return [
        sample.name
        for family in metrics.collect()
        for sample in family.samples
        if sample.labels.get("host") == host
    ]


def test_the_figures_of_a_container_disappear_with_it() -> None:
    """A server that starts a container for each kernel must not grow for weeks."""

    async def main() -> None:
        registry, spec = HostRegistry(), HostSpec("kernel-1", ContainerAddress("kernel-1"))
        stop = events.listen(metrics.count)
        try:
            for each in (spec, HostSpec("host1", HostAddress("host1"))):
                kernel = await registry.new_kernel("k1", each, 1.0)
                kernel.host.on_change()
                await registry.end(kernel)
        finally:
            await registry.close()
            stop()

    metrics = Metrics()
    asyncio.run(main())
    assert samples(metrics, "kernel-1") == []
    assert len(samples(metrics, "host1")) > 2
