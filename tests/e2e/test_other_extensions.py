"""Remote kernels beside other extensions of Jupyter servers, whose server is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..conftest import InstallSpec
from ..rig import Rig
from .applications import V1, WHERE, Applications, Server, eventually, kernels_on
from .test_browser import write_notebook

PACKAGES = {
    "documents": ["jupyter-server-documents>=0.3,<0.4"],
    "collaboration": ["jupyter-collaboration>=4", "jupyter-server-nbmodel"],
    "usage": ["jupyter-resource-usage>=1.2"],
    "proxy": ["jupyter-server-proxy>=4.4"],
}
CELL = "made = kept + 1"


@pytest.fixture(scope="session")
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with packages that these tests only are to see."""
    wanted = PACKAGES[request.param]
    cache = os.environ.get("TEST_PACKAGES_CACHE")
    target = Path(cache, request.param) if cache else tmp_path_factory.mktemp(request.param)
    if not (target / "etc").is_dir():
        argv = [sys.executable, "-m", "pip", "install", "--quiet", f"--target={target}", *wanted]
        result = subprocess.run(argv, capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"cannot install {wanted}: {result.stderr.strip()[-200:]}")
    return target


def server_with(applications: Applications, installed: Path, *options: str) -> Server:
    return applications.server(
        "server",
        *options,
        PYTHONPATH=str(installed),
        JUPYTER_CONFIG_PATH=str(installed / "etc" / "jupyter"),
    )


def open_notebook(server: Server, path: str) -> dict[str, str]:
    body = {"path": path, "name": path, "type": "notebook", "kernel": {"name": "remote"}}
    status, session = server.ask("POST", "/api/sessions", body)
    assert status == 201, session
    return session


def run(server: Server, kernel: str, code: str) -> str:
    channels = server.connect(kernel, V1)
    try:
        return channels.run(code)
    finally:
        channels.close()


def execute(server: Server, installed: Path, kernel: str) -> None:
    """Run the notebook's cell by the extension's own API, which needs no websocket."""
    body: dict[str, object] = {"code": CELL}
    if installed.name.startswith("documents"):
        _, indexed = server.ask("POST", "/api/fileid/index?path=one.ipynb")
        cells = [{"cell_id": "cell-0", "source_hash": str(murmur2(CELL.encode()))}]
        body = {"document_id": f"json:notebook:{indexed['id']}", "cells": cells}
    status, answer = server.ask("POST", f"/api/kernels/{kernel}/execute", body)
    assert status in (200, 202), answer


def was_made(server: Server, kernel: str) -> bool:
    """Whether the cell has run.

    jupyter-server-documents runs no cell before the kernel has printed nothing for 0.2 s.
    """
    time.sleep(0.5)
    return run(server, kernel, "print('made' in dir())") == "True\n"


def murmur2(data: bytes) -> int:
    """MurmurHash2 with seed 0, as jupyter-server-documents takes it of a cell."""
    mixer, most = 0x5BD1E995, 0xFFFFFFFF
    found = len(data)
    whole = len(data) - len(data) % 4
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * mixer & most
        found = (found * mixer & most) ^ ((word ^ word >> 24) * mixer & most)
    if whole < len(data):
        found = (found ^ int.from_bytes(data[whole:], "little")) * mixer & most
    found = (found ^ found >> 13) * mixer & most
    return found ^ found >> 15


@pytest.mark.long
@pytest.mark.parametrize("installed", ["documents", "collaboration"], indirect=True)
def test_a_restored_session_is_as_good_as_a_new_one(
    rig: Rig, install_spec: InstallSpec, applications: Applications, installed: Path
) -> None:
    install_spec(rig.hosts[0].target)
    (applications.directory / "data").mkdir()
    write_notebook(applications.root / "one.ipynb", CELL)
    server = server_with(applications, installed)
    session = open_notebook(server, "one.ipynb")
    kernel = session["kernel"]["id"]
    place = run(server, kernel, f"kept = 41; {WHERE}")
    server.process.kill()
    server.process.wait()

    server = server_with(applications, installed)
    (restored,) = server.ask("GET", "/api/sessions")[1]
    assert (restored["id"], restored["path"]) == (session["id"], "one.ipynb")
    assert run(server, kernel, f"print(kept + 1); {WHERE}") == f"42\n{place}"
    execute(server, installed, kernel)
    eventually(lambda: was_made(server, kernel))
    patched = server.ask("PATCH", f"/api/sessions/{session['id']}", {"name": "renamed"})
    assert patched[0] == 200
    other = server.start_kernel()
    change = {"kernel": {"id": other}}
    assert server.ask("PATCH", f"/api/sessions/{session['id']}", change)[0] == 200
    assert server.ask("DELETE", f"/api/sessions/{session['id']}") == (204, None)
    eventually(lambda: server.ask("GET", "/api/kernels")[1] == [])
    assert server.end() == 0
    eventually(lambda: not kernels_on(rig.hosts[0]))


@pytest.mark.long
@pytest.mark.parametrize("installed", ["usage"], indirect=True)
def test_the_panel_of_kernel_usage_shows_the_remote_host(
    rig: Rig, install_spec: InstallSpec, applications: Applications, installed: Path
) -> None:
    install_spec(rig.hosts[0].target)
    (applications.directory / "data").mkdir()
    server = server_with(applications, installed)
    kernel = server.start_kernel()
    place = run(server, kernel, WHERE)
    for restarted in (False, True):
        if restarted:
            server.process.kill()
            server.process.wait()
            server = server_with(applications, installed)
            assert run(server, kernel, WHERE) == place
        status, usage = server.ask("GET", f"/api/metrics/v1/kernel_usage/get_usage/{kernel}")
        assert status == 200
        content = usage["content"]
        assert content["hostname"] == rig.hosts[0].run(["hostname"]).strip()
        assert content["kernel_memory"] > 10_000_000
    # What the panel asks each few seconds takes nothing from the kernel's other clients.
    assert run(server, kernel, "6 * 7; print('still here')") == "still here\n"


@pytest.mark.long
@pytest.mark.parametrize("installed", ["proxy"], indirect=True)
def test_a_proxied_program_beside_remote_kernels(
    rig: Rig, install_spec: InstallSpec, applications: Applications, installed: Path
) -> None:
    install_spec(rig.hosts[0].target)
    (applications.directory / "data").mkdir()
    (applications.root / "answer.json").write_text("[42]")
    command = f"{sys.executable} -m http.server --bind 127.0.0.1 --directory {applications.root}"
    option = f"--ServerProxy.servers={{'files': {{'command': {[*command.split(), '{port}']}}}}}"
    server = server_with(applications, installed, option)
    kernel = server.start_kernel()
    assert server.ask("GET", "/files/answer.json") == (200, [42])
    run(server, kernel, "kept = 41")
    server.process.kill()
    server.process.wait()
    server = server_with(applications, installed, option)
    assert server.ask("GET", "/files/answer.json") == (200, [42])
    assert run(server, kernel, "print(kept + 1)") == "42\n"
    assert server.ask("DELETE", f"/api/kernels/{kernel}")[0] == 204
