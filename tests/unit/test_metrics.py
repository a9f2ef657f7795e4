"""What Prometheus is told has the names that the dashboard and its page use."""

from __future__ import annotations

import json
import re
from pathlib import Path

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
