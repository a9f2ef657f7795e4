"""The server's API for hosts and kernels: as it is documented, and only for who may use it."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket

from ..conftest import InstallSpec, be_client
from ..rig import Rig
from .applications import AUTHORIZATION, PRINT_MUCH, Applications, Server, Signal, eventually
from .made_environments import make_venv
from .openapi import DocumentedApi


class Followed:
    """The events of a server, as a page follows them."""

    def __init__(self, server: Server) -> None:
        self.events: list[dict[str, Any]] = []
        self._socket = websocket.create_connection(
            f"ws://{server.address}/api/events/subscribe", header=AUTHORIZATION
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while text := self._socket.recv():
                self.events.append(json.loads(text))
        except (OSError, websocket.WebSocketException):
            pass

    def of(self, name: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["schema_id"].endswith(f"remote_provisioners/{name}/v1")]

    def close(self) -> None:
        self._socket.close()
        self._thread.join(10)


@pytest.fixture
def server(rig: Rig, home: Path, tmp_path: Path, install_spec: InstallSpec) -> Iterator[Server]:
    one, two = (host.target for host in rig.hosts)
    install_spec([{"host": one, "labels": ["big"], "capacity": 9, "gpus": 2}, two])
    install_spec([one], name="ends", argv=["python", "-c", "print('no licence'); exit(3)"])
    with Applications(tmp_path) as applications:
        yield applications.server("server")


def test_every_operation_is_as_it_is_documented(rig: Rig, server: Server) -> None:
    api = DocumentedApi(server)
    one, two = (host.target for host in rig.hosts)
    before = api.ask("GET", "/hosts")["hosts"]
    assert [(h["name"], h["state"], h["cores"]) for h in before] == [
        (one, "disconnected", None),
        (two, "disconnected", None),
    ]
    assert before[0]["labels"] == ["big"]
    assert before[0]["gpus"] == ["0", "1"]
    assert api.ask("POST", f"/hosts/{one}/reconnect")["state"] == "connected"
    api.ask("GET", f"/hosts/{one}")
    asked = api.ask("GET", "/hosts?ask=true")["hosts"]
    assert [(h["state"], h["cores"] >= 1, h["round_trip"] < 5) for h in asked] == [
        ("connected", True, True)
    ] * 2

    kernel_id = str(uuid.uuid4())
    body = {"name": "remote", "id": kernel_id, "host": two, "path": "notebook.ipynb"}
    started = api.ask("POST", "/kernels", body, 201)
    assert (started["id"], started["host"], started["state"]) == (kernel_id, two, "running")
    labelled = api.ask("POST", "/kernels", {"name": "remote", "labels": ["big"], "gpus": 1}, 201)
    assert (labelled["host"], labelled["gpus"]) == (one, ["0"])
    session = {
        "path": "notebook.ipynb",
        "name": "",
        "type": "notebook",
        "kernel": {"id": kernel_id},
    }
    assert server.ask("POST", "/api/sessions", session)[0] == 201
    listed = {k["id"]: k for k in api.ask("GET", "/kernels")["kernels"]}
    assert set(listed) == {kernel_id, labelled["id"]}
    assert listed[kernel_id]["notebook"]["path"] == "notebook.ipynb"
    server.run(kernel_id, "import os; os.write(1, b'on stdout\\n'); kept = 1")
    assert "on stdout" in api.ask("GET", f"/kernels/{kernel_id}/logs")["output"]
    asked = api.ask("GET", f"/kernels/{kernel_id}?ask=true")
    assert asked["memory"] > 2**20
    ports = {k["id"]: k["ports"] for k in api.ask("GET", "/ports")["kernels"]}
    assert ports == {kernel_id: [], labelled["id"]: []}

    moved = api.ask("POST", f"/kernels/{kernel_id}/move", {"host": one})
    assert (moved["id"], moved["host"], moved["state"]) == (kernel_id, one, "running")
    assert server.run(kernel_id, "print('kept' in globals())") == "False\n"
    api.ask("DELETE", f"/kernels/{labelled['id']}", expect=204)
    api.ask("DELETE", f"/kernels/{kernel_id}", expect=204)
    assert api.ask("GET", "/kernels")["kernels"] == []
    assert api.ask("GET", "/found-kernels") == {"kernels": [], "failures": []}

    venv = make_venv(rig.hosts[0].home / ".venvs" / "api")
    path = f"/hosts/{one}/environments"
    (found,) = (e for e in api.ask("GET", path)["environments"] if e["path"] == str(venv))
    assert (found["name"], found["usable"], found["kernelspec"]) == ("api", True, None)
    added = api.ask("POST", path, {"environments": [found["key"]]}, 201)
    (spec,) = added["kernelspecs"]
    assert (spec["change"], spec["hosts"], added["errors"]) == ("new", [one], [])
    assert spec["name"] in server.ask("GET", "/api/kernelspecs")[1]["kernelspecs"]
    started = api.ask("POST", "/kernels", {"name": spec["name"]}, 201)
    assert server.run(started["id"], "import sys; print(sys.prefix)") == f"{venv}\n"
    api.ask("DELETE", f"/kernels/{started['id']}", expect=204)
    (found,) = (e for e in api.ask("GET", path)["environments"] if e["path"] == str(venv))
    assert found["kernelspec"] == spec["name"]
    assert spec["name"] in api.ask("GET", f"/hosts/{one}")["kernelspecs"]
    refreshed = api.ask("POST", f"{path}/refresh", expect=200)
    changes = [(spec["change"], spec["name"]) for spec in refreshed["kernelspecs"]]
    assert (changes, refreshed["errors"]) == ([("unchanged", spec["name"])], [])
    shutil.rmtree(venv.parent)
    (gone,) = api.ask("POST", f"{path}/refresh", expect=200)["kernelspecs"]
    assert (gone["change"], gone["display_name"][-6:]) == ("gone", "(gone)")

    api.ask("DELETE", f"/starts/{kernel_id}", expect=404)
    refused = api.ask("POST", "/kernels", {"name": "ends"}, 500)["error"]
    assert (refused["kind"], refused["host"]) == ("KernelStartError", one)
    assert refused["printed"] == "no licence"
    unused = {f"{name}" for name in api.operations} - {name for name, _ in api.used}
    assert unused == set()


def test_what_cannot_be_understood_is_refused(server: Server) -> None:
    api = DocumentedApi(server)
    for body in (
        {},
        {"name": "remote", "id": "no uuid"},
        {"name": "remote", "gpus": "many"},
        {"name": "remote", "gpus": True},
        {"name": "remote", "labels": [1]},
        {"name": "remote", "nonsense": 1},
    ):
        api.ask("POST", "/kernels", body, 400)
    said = api.ask("POST", "/kernels", {"name": "nosuch"}, 404)
    assert said["message"] == "there is no kernelspec 'nosuch'"
    api.ask("POST", "/kernels", {"name": "remote", "host": "a b"}, 400)
    said = api.ask("GET", "/hosts/nosuch", expect=404)
    assert said["message"] == "there is no host 'nosuch'"
    api.ask("POST", "/hosts/nosuch/reconnect", expect=404)
    api.ask("GET", "/hosts/nosuch/environments", expect=404)
    host = api.ask("GET", "/hosts")["hosts"][0]["name"]
    for wrong in ({}, {"environments": []}, {"environments": [1]}, {"environments": "x"}):
        api.ask("POST", f"/hosts/{host}/environments", wrong, 400)
    said = api.ask("POST", f"/hosts/{host}/environments", {"environments": ["nosuch"]}, 404)
    assert said["message"] == f"there is no environment with a kernel on {host}: 'nosuch'"
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/logs")):
        api.ask(method, f"/kernels/nosuch{path}", expect=404)
    api.ask("POST", "/kernels/nosuch/move", {"host": "h"}, 404)
    assert server.ask("GET", "/api/kernels")[1] == []


def test_who_is_not_logged_in_sees_nothing(server: Server) -> None:
    api = DocumentedApi(server)
    for path, operations in api.document["paths"].items():
        for method in operations.keys() - {"parameters"}:
            url = f"http://{server.address}{api.root}{path}".replace("{", "").replace("}", "")
            request = urllib.request.Request(url, method=method.upper(), data=b"{}")
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=30)
            with refused.value:
                assert refused.value.code == 403, (method, path)


def test_a_kernel_that_another_server_left_is_found_read_and_ended(
    rig: Rig, server: Server, tmp_path: Path
) -> None:
    api = DocumentedApi(server)
    host = rig.hosts[0].target
    (tmp_path / "other").mkdir()
    with Applications(tmp_path / "other") as others:
        others.configure("jupyter_server", leave_kernels_running=True)
        other = others.server("server")
        kernel_id = DocumentedApi(other).ask(
            "POST", "/kernels", {"name": "remote", "host": host}, 201
        )["id"]
        other.run(kernel_id, "import os; os.write(1, b'left')")
        api.ask("GET", f"/kernels/{kernel_id}", expect=404)
        where = f"?host={host}"
        found = api.ask("GET", "/found-kernels")["kernels"]
        assert [(k["id"], k["host"], k["owner"]) for k in found] == [
            (kernel_id, host, "another server")
        ]
        assert "left" in api.ask("GET", f"/kernels/{kernel_id}/logs{where}")["output"]
        other.end()

        def left() -> bool:
            kernels = api.ask("GET", "/found-kernels")["kernels"]
            return [k["owner"] for k in kernels] == ["no server"]

        eventually(left)
        api.ask("DELETE", f"/kernels/{kernel_id}{where}", expect=204)
        assert api.ask("GET", "/found-kernels")["kernels"] == []


def test_a_start_is_followed_and_cancelled(
    rig: Rig, home: Path, tmp_path: Path, install_spec: InstallSpec
) -> None:
    host = rig.hosts[0]
    install_spec(host.target)
    slow = ["python", "-c", "import time; time.sleep(60)"]
    install_spec([host.target], name="slow", argv=[*slow, "{connection_file}"])
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        api, followed = DocumentedApi(server), Followed(server)
        kernel_id = api.ask("POST", "/kernels", {"name": "remote"}, 201)["id"]
        phases = [e["phase"] for e in eventually(lambda: _ended(followed, kernel_id))]
        assert phases[:3] == ["placing", "connecting", "launching"]
        assert phases[-1] == "ready"
        assert {e["host"] for e in followed.of("start")[1:]} == {host.target}
        way = followed.of("start")[-1]["way"]
        assert way in ("spawned", "forked")

        other = str(uuid.uuid4())
        refused: list[Any] = []

        def start() -> None:
            refused.append(api.ask("POST", "/kernels", {"name": "slow", "id": other}, 409))

        thread = threading.Thread(target=start)
        thread.start()
        eventually(
            lambda: [s["kernel_id"] for s in api.ask("GET", "/kernels")["starts"]] == [other]
        )
        eventually(lambda: api.ask("GET", "/kernels")["starts"][0]["phase"] == "launching")
        began = time.monotonic()
        api.ask("DELETE", f"/starts/{other}", expect=204)
        thread.join(20)
        assert time.monotonic() - began < 5
        assert refused[0]["error"]["kind"] == "StartCancelledError"
        assert eventually(lambda: _ended(followed, other))[-1]["phase"] == "cancelled"
        assert [k["id"] for k in api.ask("GET", "/kernels")["kernels"]] == [kernel_id]
        states = [e["host"]["state"] for e in followed.of("host")]
        assert "connected" in states
        changes = [e["change"] for e in followed.of("kernel") if e["kernel"]["id"] == kernel_id]
        assert "running" in changes
        api.ask("DELETE", f"/kernels/{kernel_id}", expect=204)

        def gone() -> bool:
            return followed.of("kernel")[-1]["change"] == "gone"

        eventually(gone)
        followed.close()


@pytest.mark.long
def test_a_limit_that_comes_near_and_output_that_is_dropped(
    own_rig: Rig, tmp_path: Path, install_spec: InstallSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    install_spec([host.target], network_grace=16, output_memory=0.5, output_disk=0.5)
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        api, followed = DocumentedApi(server), Followed(server)
        kernel_id = api.ask("POST", "/kernels", {"name": "remote"}, 201)["id"]
        assert api.ask("GET", f"/kernels/{kernel_id}")["time_left"] is None

        def said(change: str) -> list[dict[str, Any]]:
            return [e for e in followed.of("kernel") if e["change"] == change]

        channels = server.connect(kernel_id)
        away = Signal(host)
        channels.execute(PRINT_MUCH.format(wait=away.wait))
        channels.wait_for_state("busy")
        host.link_down()
        (near,) = eventually(lambda: said("ends soon"), 40)
        assert near["limit"] == "grace"
        assert 0 < near["seconds_left"] <= 4
        assert near["kernel"]["state"] == "unreachable"
        away.give()
        host.link_up()
        eventually(lambda: said("back"), 30)
        dropped = eventually(lambda: said("output dropped"), 30)
        assert sum(event["dropped"] for event in dropped) > 100
        assert len(said("ends soon")) == 1
        followed.close()


def _ended(followed: Followed, kernel_id: str) -> list[dict[str, Any]]:
    """The events of a start that is over; none as long as it is not."""
    of_it = [e for e in followed.of("start") if e["kernel_id"] == kernel_id]
    over = of_it and of_it[-1]["phase"] in ("ready", "failed", "cancelled")
    return of_it if over else []


def test_a_thousand_hosts_are_answered_quickly_and_the_server_goes_on(
    home: Path, tmp_path: Path, install_spec: InstallSpec
) -> None:
    install_spec([f"node{number}.example" for number in range(1000)])
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        api = DocumentedApi(server)
        assert len(api.ask("GET", "/hosts")["hosts"]) == 1000  # read for the first time
        seconds = []
        before = processor_seconds(server.process.pid)
        for _ in range(50):
            began = time.perf_counter()
            server.ask("GET", f"{api.root}/hosts")
            seconds.append(time.perf_counter() - began)
        used = (processor_seconds(server.process.pid) - before) / 50
        print(f"1,000 hosts: {1000 * used:.0f} ms of processor time, {1000 * min(seconds):.0f} ms")
        assert used < 0.02
        assert min(seconds) < 0.1  # machines that test are busy


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
