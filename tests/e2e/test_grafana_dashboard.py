"""Every panel of the Grafana dashboard, asked of a real Prometheus that reads a real server."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import InstallSpec, be_client
from ..free_port import free_port
from ..rig import Rig
from .applications import PRINT_MUCH, Applications, Signal, eventually

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not shutil.which("prometheus"), reason="needs prometheus"),
]

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana-dashboard.json"
CONFIGURATION = """
global: {{scrape_interval: 1s}}
scrape_configs:
- job_name: jupyter
  static_configs: [{{targets: ['{address}']}}]
"""
#: Of the time that a person looks at.
RANGE = "2m"

Query = Callable[[str], list[dict[str, Any]]]


def queries() -> dict[str, list[str]]:
    """The queries of each panel, with its variables as Grafana would fill them in."""
    found = {}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        expressions = [target["expr"] for target in panel.get("targets", ())]
        found[panel["title"]] = [
            text.replace("$job", "jupyter").replace("$__rate_interval", RANGE)
            for text in expressions
        ]
    return found


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[str], Query]]:
    running: list[subprocess.Popen[bytes]] = []
    port = free_port()

    def query(text: str) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def start(address: str) -> Query:
        configuration = tmp_path / "prometheus.yml"
        configuration.write_text(CONFIGURATION.format(address=address))
        argv = [f"--config.file={configuration}", f"--storage.tsdb.path={tmp_path}/series"]
        argv.append(f"--web.listen-address=127.0.0.1:{port}")
        log = (tmp_path / "prometheus.log").open("wb")
        with log:
            running.append(subprocess.Popen(["prometheus", *argv], stdout=log, stderr=log))

        def has_read() -> bool:
            try:
                return bool(query("up == 1"))
            except OSError:
                return False

        eventually(has_read, 60)
        return query

    yield start
    for process in running:
        process.terminate()
        process.wait()


def test_every_panel_shows_what_has_happened(
    own_rig: Rig,
    tmp_path: Path,
    install_spec: InstallSpec,
    monkeypatch: pytest.MonkeyPatch,
    prometheus: Callable[[str], Query],
) -> None:
    be_client(own_rig, monkeypatch)
    host, other = own_rig.hosts[:2]
    install_spec([host.target], output_memory=0.5, output_disk=0.5)
    install_spec([other.target], name="ends", argv=["python", "-c", "exit(3)"])
    with Applications(tmp_path) as applications:
        server = applications.server("server", "--ServerApp.authenticate_prometheus=False")
        query = prometheus(server.address)
        # It sees no increase in what it has not read before.
        first = server.start_kernel()
        eventually(lambda: query("count_over_time(remote_provisioners_starts_total[1m]) > 1"), 60)
        server.start_kernel()
        assert server.ask("POST", "/api/kernels", {"name": "ends"})[0] == 500
        channels = server.connect(first)
        unreachable = Signal(host)
        channels.execute(PRINT_MUCH.format(wait=unreachable.wait))
        channels.wait_for_state("busy")
        host.link_down()
        eventually(lambda: query('remote_provisioners_hosts{state="unreachable"} == 1'), 60)
        unreachable.give()
        host.link_up()
        eventually(lambda: query("remote_provisioners_output_dropped_messages_total > 0"), 60)
        server.run(first, "print('x' * 100_000)")
        shown = {}

        def all_shown() -> bool:
            for title, texts in queries().items():
                shown[title] = [query(text) for text in texts]
            return all(
                any(_value(row) > 0 for row in rows) for found in shown.values() for rows in found
            )

        eventually(all_shown, 60)
    values = {
        title: [max(_value(row) for row in rows) for rows in found if rows]
        for title, found in shown.items()
    }
    assert [title for title, found in shown.items() if not all(found)] == []
    assert all(value > 0 for found in values.values() for value in found), values
    (outcomes,) = shown["Starts by outcome"]
    increased = {row["metric"].get("cause", "") for row in outcomes if _value(row) > 0.5}
    assert increased == {"", "KernelStartError"}


def _value(row: dict[str, Any]) -> float:
    value = float(row["value"][1])
    return -1.0 if math.isnan(value) else value
