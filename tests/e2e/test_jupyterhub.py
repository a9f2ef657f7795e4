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
import websocket
import yaml

from remote_provisioners.server.api.routes import DOCUMENT

from ..conftest import InstallSpec, eventually
from ..free_port import free_port
from ..rig import Rig
from .applications import TOKEN, Application, Applications, Channels

#: They start half a dozen of servers.
pytestmark = pytest.mark.long

#: Where `make test` installs it.
PROXY = Path(sys.prefix, "proxy/node_modules/.bin/configurable-http-proxy")
#: Opens no login page for who is refused.
DIRECTLY = urllib.request.OpenerDirector()
for handler in (urllib.request.HTTPHandler, urllib.request.HTTPDefaultErrorHandler):
    DIRECTLY.add_handler(handler())
DIRECTLY.add_handler(urllib.request.HTTPErrorProcessor())
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
scopes = ["admin:users", "admin:servers", "access:servers", "tokens", "shares"]
c.JupyterHub.load_roles = [{{"name": "tests", "services": ["tests"], "scopes": scopes}}]
"""


class Hub:
    """A hub, as the user `user` asks it."""

    def __init__(self, port: int, user: str, application: Application, token: str = TOKEN) -> None:
        self._port, self._user, self._token = port, user, token
        self.application = application

    def of(self, user: str, token: str | None = None) -> Hub:
        """The servers of another user."""
        return Hub(self._port, user, self.application, self._token if token is None else token)

    def login(self, user: str) -> Hub:
        """The hub as `user` asks it, with a token of her own and no other rights."""
        path = f"/hub/api/users/{user}"
        assert self.ask("POST", path)[0] in (201, 409)
        status, made = self.ask("POST", f"{path}/tokens", {})
        assert status == 201
        return self.of(user, made["token"])

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self._token}"} if self._token else {},
            method=method,
        )
        try:
            with DIRECTLY.open(request, timeout=60) as answer:
                text = answer.read()
                is_json = "json" in answer.headers.get("Content-Type", "")
                return answer.status, json.loads(text or b"null") if is_json else text
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

    def connect(self, path: str) -> int:
        """The status of the answer to a browser that opens a websocket."""
        header = {"Authorization": f"token {self._token}"} if self._token else {}
        try:
            websocket.create_connection(
                f"ws://127.0.0.1:{self._port}{path}", timeout=60, header=header
            ).close()
        except websocket.WebSocketBadStatusException as error:
            return error.status_code
        return 101


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


def paths_of(server: str, kernel: str) -> Iterator[tuple[str, str]]:
    """The methods and paths that the extension adds to a server."""
    page = f"{server}/remote-provisioners"
    for path, operations in yaml.safe_load(DOCUMENT.read_text())["paths"].items():
        for method in operations.keys() - {"parameters"}:
            filled = path.replace("{kernel_id}", kernel).replace("{host}", "localhost")
            assert "{" not in filled
            yield method.upper(), f"{page}/api/v1{filled}"
    host, port = f"{page}/api/v1/hosts/localhost", f"{page}/kernels/{kernel}/port/1"
    for path in ("", "/static/page.js"):
        yield "GET", f"{page}{path}"
    for path in ("/contents", "/contents/a", "/contents/a/checkpoints", "/files/a"):
        yield "GET", f"{host}{path}"
    for method, path in (("PUT", "a"), ("POST", ""), ("DELETE", "a"), ("POST", "a/checkpoints")):
        yield method, f"{host}/contents/{path}"
    for path in (port, f"{port}/", f"{port.replace('port/', 'proxy/absolute/')}/"):
        yield "GET", path
    yield "POST", f"{port}/"
    yield "GET", f"{server}/metrics"


def test_two_users_with_one_account_on_the_host(tmp_path: Path, install_spec: InstallSpec) -> None:
    """They also share a home: only the hub tells them apart."""
    install_spec("localhost", leave_kernels_running=True)
    names = code_of_the_page("KERNEL_USERNAME").replace("environment =", "environment |=")
    with a_hub(tmp_path, "alice", names) as hub:
        alice, bob, nobody = hub.login("alice"), hub.login("bob"), hub.of("alice", token="")
        hub.start("one")
        kernel = alice.start_kernel("one")
        server = "/user/alice/one"
        api = f"{server}/remote-provisioners/api/v1"
        for other, refusals in ((bob, (403,)), (nobody, (302, 403))):
            for method, path in paths_of(server, kernel):
                assert other.ask(method, path, {})[0] in refusals, (method, path)
            for path in (
                f"{server}/api/kernels/{kernel}/channels",
                f"{server}/api/events/subscribe",
                f"{server}/remote-provisioners/kernels/{kernel}/port/1/",
            ):
                assert other.connect(path) in refusals, path
        assert alice.kernels("one") == [kernel]
        channels = hub.channels("one", kernel)
        assert channels.run("import os; print(os.environ['KERNEL_USERNAME'])") == "alice\n"
        channels.close()

        hub.of("bob").start("two")
        ours = bob.ask("GET", "/user/bob/two/remote-provisioners/api/v1/kernels")[1]
        assert (bob.kernels("two"), ours["kernels"]) == ([], [])
        path = f"/user/bob/two/remote-provisioners/api/v1/kernels/{kernel}"
        assert bob.ask("DELETE", path)[0] == 404
        assert bob.connect(f"/user/bob/two/api/kernels/{kernel}/channels") == 404

        hub.stop("one")
        hub.of("bob").stop("two")
        hub.of("bob").start("two")
        assert bob.kernels("two") == []
        hub.start("one")
        assert alice.kernels("one") == [kernel]

        shared = {"user": "bob", "scopes": ["access:servers!server=alice/one"]}
        assert hub.ask("POST", "/hub/api/shares/alice/one", shared)[0] in (200, 201)
        assert bob.ask("GET", f"{api}/kernels")[0] == 200
        assert bob.ask("DELETE", f"{api}/kernels/{kernel}")[0] == 204
        hub.stop("one")
        hub.of("bob").stop("two")


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
