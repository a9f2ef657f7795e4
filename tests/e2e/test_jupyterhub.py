"""A real JupyterHub: stopped servers leave their kernels, named servers find their own again.

Needs ``jupyterhub`` and ``configurable-http-proxy`` on the PATH (docs/jupyterhub.md).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ..conftest import InstallSpec
from .applications import Applications, eventually

HUB_TOKEN = "token-of-the-tests"
CONFIG = """
c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{directory}/users/{{username}}"
c.JupyterHub.allow_named_servers = True
c.ConfigurableHTTPProxy.command = ["configurable-http-proxy"]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_port}"
c.Spawner.cmd = ["{python}", "-m", "jupyterhub.singleuser", "--allow-root"]
c.Spawner.environment = {environment!r}
c.Spawner.default_url = "/api"
c.JupyterHub.services = [{{"name": "tests", "api_token": "{token}"}}]
scopes = ["admin:users", "admin:servers", "access:servers"]
c.JupyterHub.load_roles = [{{"name": "tests", "services": ["tests"], "scopes": scopes}}]
"""


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Hub:
    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {HUB_TOKEN}"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, None
        except OSError:
            return 0, None

    def servers(self) -> dict[str, Any]:
        servers: dict[str, Any] = self.ask("GET", "/hub/api/users/ann")[1]["servers"]
        return {name: server for name, server in servers.items() if server["ready"]}

    def start(self, name: str) -> None:
        assert self.ask("POST", f"/hub/api/users/ann/servers/{name}", {})[0] in (201, 202)
        eventually(lambda: name in self.servers(), 60)

    def stop(self, name: str) -> None:
        assert self.ask("DELETE", f"/hub/api/users/ann/servers/{name}", {})[0] in (202, 204)
        eventually(lambda: name not in self.servers(), 60)

    def kernels(self, name: str) -> list[str]:
        return [kernel["id"] for kernel in self.ask("GET", f"/user/ann/{name}/api/kernels")[1]]


def test_named_servers_stop_and_find_their_kernels_again(
    tmp_path: Path, install_spec: InstallSpec
) -> None:
    program, proxy = shutil.which("jupyterhub"), shutil.which("configurable-http-proxy")
    if program is None or proxy is None:
        pytest.skip("jupyterhub and configurable-http-proxy are not installed")
    packages = subprocess.run(
        [
            str(Path(program).resolve().parent / "python"),
            "-c",
            "import jupyterhub; print(jupyterhub.__path__[0])",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    install_spec("localhost", leave_kernels_running=True)
    port, hub_port, proxy_port = free_ports(3)
    environment = {n: os.environ[n] for n in ("JUPYTER_PATH", "TMPDIR")}
    environment["PYTHONPATH"] = str(Path(packages.strip()).parent)
    (tmp_path / "users" / "ann").mkdir(parents=True)
    with Applications(tmp_path) as applications:
        config = tmp_path / "jupyterhub_config.py"
        config.write_text(
            CONFIG.format(
                port=port,
                hub_port=hub_port,
                proxy_port=proxy_port,
                directory=tmp_path,
                python=sys.executable,
                environment=environment,
                token=HUB_TOKEN,
            )
        )
        code = f"import os; os.execv({program!r}, ['jupyterhub', '-f', {str(config)!r}])"
        application = applications.script(code)
        hub = Hub(port)
        eventually(lambda: hub.ask("GET", "/hub/api/")[0] == 200, 60)
        assert hub.ask("POST", "/hub/api/users/ann")[0] == 201
        hub.start("one")
        hub.start("two")
        status, kernel = hub.ask("POST", "/user/ann/one/api/kernels", {"name": "remote"})
        assert status == 201
        hub.stop("one")  # by SIGINT
        hub.stop("two")
        hub.start("two")
        assert hub.kernels("two") == []
        hub.start("one")
        assert hub.kernels("one") == [kernel["id"]]
        assert hub.ask("DELETE", f"/user/ann/one/api/kernels/{kernel['id']}")[0] == 204
        for name in ("one", "two"):
            hub.stop(name)
        assert "which has ended, still on hosts" in application.output
