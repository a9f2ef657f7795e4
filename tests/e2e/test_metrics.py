"""What Prometheus is told by a Jupyter server."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ..conftest import InstallSpec, be_client
from ..rig import Rig
from .applications import AUTHORIZATION, Applications, Server, eventually
from .openapi import DocumentedApi


def samples(server: Server) -> dict[tuple[str, ...], float]:
    """Our samples, by their names without prefix, and the values of their labels by name."""
    request = urllib.request.Request(f"http://{server.address}/metrics", headers=AUTHORIZATION)
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("remote_provisioners_"):
                labels = [value for _, value in sorted(sample.labels.items())]
                key = (sample.name.removeprefix("remote_provisioners_"), *labels)
                found[key] = sample.value
    return found


def test_hosts_kernels_starts_and_bytes_are_counted(
    rig: Rig, home: Path, tmp_path: Path, install_spec: InstallSpec
) -> None:
    one, two = (host.target for host in rig.hosts)
    install_spec([one, two])
    install_spec([one], name="ends", argv=["python", "-c", "exit(3)"])
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        api = DocumentedApi(server)
        kernel_id = api.ask("POST", "/kernels", {"name": "remote", "host": two}, 201)["id"]
        server.run(kernel_id, "print('x' * 100_000)")
        api.ask("POST", "/kernels", {"name": "ends"}, 500)
        api.ask("GET", "/hosts?ask=true")
        found = samples(server)
        assert found["hosts", "connected"] == 2
        assert found["kernels", two, "running"] == 1
        assert found["starts_total", "", "start", "ready"] == 1
        assert found["starts_total", "KernelStartError", "start", "failed"] == 1
        seconds = {k: v for k, v in found.items() if k[0] == "start_seconds_count" and v}
        assert list(seconds.values()) == [1]
        assert next(iter(seconds))[2] in ("spawned", "forked")
        assert found["kernel_bytes_total", "from", two] > 100_000
        assert 0 < found["kernel_bytes_total", "to", two] < 100_000
        assert 0 < found["round_trip_seconds", one] < 5
        before = found["kernel_bytes_total", "from", two]
        api.ask("DELETE", f"/kernels/{kernel_id}", expect=204)
        found = samples(server)
        assert ("kernels", two, "running") not in found
        assert found["kernel_bytes_total", "from", two] >= before


def test_a_connection_that_is_made_again_is_counted(
    own_rig: Rig, tmp_path: Path, install_spec: InstallSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    install_spec([host.target])
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        server.start_kernel()
        assert samples(server)["reconnections_total", host.target] == 0
        host.run(["sh", "-c", "kill $(pgrep -f 'sshd: .*@notty|sshd: root')"], check=False)
        eventually(lambda: samples(server).get(("reconnections_total", host.target)) == 1)
