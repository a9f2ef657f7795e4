"""A real JupyterHub with its proxy, as docs/jupyterhub.md says it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..conftest import InstallSpec, eventually
from ..free_port import free_port
from ..rig import Rig
from .applications import TOKEN, Application, Applications, Channels

#: They start half a dozen of servers.
pytestmark = pytest.mark.long

#: Where `make test` installs it.
PROXY = Path(sys.prefix, "proxy/node_modules/.bin/configurable-http-proxy")
PAGE = Path(__file__).parents[2] / "docs/jupyterhub.md"
CONFIG = """
c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{directory}/users/{{username}}"
c.JupyterHub.allow_named_servers = True
c.ConfigurableHTTPProxy.command = ["{proxy}"]
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_port}"
c.Spawner.cmd = ["{python}", "-m", "jupyterhub.singleuser", "--allow-root"]
c.Spawner.environment = {environment!r}
c.Spawner.default_url = "/api"
c.JupyterHub.services = [{{"name": "tests", "api_token": "{token}"}}]
scopes = ["admin:users", "admin:servers", "access:servers"]
c.JupyterHub.load_roles = [{{"name": "tests", "services": ["tests"], "scopes": scopes}}]
"""


class Hub:
    """A hub, as the user `user` asks it."""

    def __init__(self, port: int, user: str, application: Application) -> None:
        self._port, self._user = port, user
        self.application = application

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {TOKEN}"},
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
        servers: dict[str, Any] = self.ask("GET", f"/hub/api/users/{self._user}")[1]["servers"]
        return {name: server for name, server in servers.items() if server["ready"]}

    def start(self, name: str) -> None:
        assert self.ask("POST", f"/hub/api/users/{self._user}/servers/{name}", {})[0] in (201, 202)
        eventually(lambda: name in self.servers(), 60)

    def stop(self, name: str) -> None:
        assert self.ask("DELETE", f"/hub/api/users/{self._user}/servers/{name}", {})[0] in (
            202,
            204,
        )
        eventually(lambda: name not in self.servers(), 60)

    def kernels(self, name: str) -> list[str]:
        kernels = self.ask("GET", f"/user/{self._user}/{name}/api/kernels")[1]
        return [kernel["id"] for kernel in kernels]

    def start_kernel(self, name: str) -> str:
        path = f"/user/{self._user}/{name}/api/kernels"
        status, kernel = self.ask("POST", path, {"name": "remote"})
        assert status == 201
        return str(kernel["id"])

    def end_kernel(self, name: str, kernel_id: str) -> None:
        path = f"/user/{self._user}/{name}/api/kernels/{kernel_id}"
        assert self.ask("DELETE", path)[0] == 204

    def channels(self, name: str, kernel_id: str) -> Channels:
        path = f"/user/{self._user}/{name}/api/kernels/{kernel_id}/channels"
        return Channels(f"ws://127.0.0.1:{self._port}{path}", "")


@contextmanager
def a_hub(tmp_path: Path, user: str, more: str = "") -> Iterator[Hub]:
    """A hub with one user. `more` is added to its configuration."""
    proxy = str(PROXY) if PROXY.exists() else shutil.which("configurable-http-proxy")
    if proxy is None or importlib.util.find_spec("jupyterhub") is None:
        pytest.skip("jupyterhub or its proxy is not installed: `make test` installs both")
    port, hub_port, proxy_port = free_port(), free_port(), free_port()
    environment = {n: os.environ[n] for n in ("JUPYTER_PATH", "TMPDIR")}
    environment["HOME"] = str(tmp_path / "users" / user)
    Path(environment["HOME"]).mkdir(parents=True, exist_ok=True)
    with Applications(tmp_path) as applications:
        config = tmp_path / "jupyterhub_config.py"
        settings = CONFIG.format(
            port=port,
            hub_port=hub_port,
            proxy_port=proxy_port,
            proxy=proxy,
            directory=tmp_path,
            python=sys.executable,
            environment=environment,
            token=TOKEN,
        )
        config.write_text(settings + more)
        path = f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"  # a Node of PyPI is there
        application = applications.python("-m", "jupyterhub", "-f", str(config), PATH=path)
        hub = Hub(port, user, application)
        eventually(lambda: hub.ask("GET", "/hub/api/")[0] == 200, 90)
        assert hub.ask("POST", f"/hub/api/users/{user}")[0] == 201
        yield hub


def test_named_servers_stop_and_find_their_kernels_again(
    tmp_path: Path, install_spec: InstallSpec
) -> None:
    install_spec("localhost", leave_kernels_running=True)
    with a_hub(tmp_path, "ann") as hub:
        hub.start("one")
        hub.start("two")
        kernel = hub.start_kernel("one")
        hub.stop("one")  # by SIGINT
        hub.stop("two")
        hub.start("two")
        assert hub.kernels("two") == []
        hub.start("one")
        assert hub.kernels("one") == [kernel]
        hub.end_kernel("one", kernel)
        for name in ("one", "two"):
            hub.stop(name)
        assert "has ended and left 1 kernel on hosts" in hub.application.output


def code_of_the_page(word: str) -> str:
    """The piece of code in docs/jupyterhub.md that contains `word`."""
    blocks = PAGE.read_text().split("```")[1::2]
    (block,) = (block for block in blocks if word in block)
    return block.removeprefix("python\n")


def test_short_certificates(
    own_rig: Rig, tmp_path: Path, install_spec: InstallSpec, clean_environment: Path
) -> None:
    """A certificate that has run out is noticed; a new one brings the kernel back."""
    host, user = own_rig.hosts[0], "alice"
    authority, key = tmp_path / "user_ca", tmp_path / "users" / user / ".ssh" / "id_ed25519"
    key.parent.mkdir(mode=0o700, parents=True)
    for path in (authority, key):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    for name in ("config", "known_hosts"):
        text = (own_rig.home / ".ssh" / name).read_text()
        key.with_name(name).write_text(text.replace(str(own_rig.home / ".ssh"), str(key.parent)))
    host.write("/run/user_ca.pub", authority.with_suffix(".pub").read_text(), user="root")
    host.refuse_keys()
    host.sshd_option(TrustedUserCAKeys="/run/user_ca.pub")
    install_spec(f"{user}@{host.target}")

    def sign(validity: str) -> None:
        words = ["-q", "-s", str(authority), "-I", user, "-n", user, "-V", validity]
        subprocess.run(["ssh-keygen", *words, str(key) + ".pub"], check=True)

    hook = code_of_the_page("pre_spawn_hook = sign").replace(
        "/etc/jupyterhub/user_ca", str(authority)
    )
    with a_hub(tmp_path, user, hook) as hub:
        hub.start("one")
        kernel = hub.start_kernel("one")
        channels = hub.channels("one", kernel)
        assert channels.run("x = 41") == ""
        sign("-2m:-1m")
        host.stop_sshd(sessions=True)
        host.start_sshd()
        eventually(lambda: "expired" in host.log(), 30)
        sign("-1m:+2m")
        assert channels.run("print(x + 1)") == "42\n"
        channels.close()
        hub.end_kernel("one", kernel)
        hub.stop("one")
