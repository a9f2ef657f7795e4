"""What a cluster does when its API, a real HTTP server, no longer accepts the token."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from remote_provisioners.engines.kubernetes import cluster as module
from remote_provisioners.engines.kubernetes.cluster import Access, Cluster
from remote_provisioners.errors import AuthenticationError, ConfigurationError

from ..conftest import words

pytestmark = pytest.mark.long  # Kubernetes' package takes seconds to import

#: A plug-in for logins, as clouds have them. Its tokens are numbers.
PLUG_IN = """
import json, pathlib, sys
count = pathlib.Path(sys.argv[1])
number = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(number))
if number > 3: sys.exit("the session has expired: log in")
print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                  "status": {"token": str(number)}}))
"""


class Api:
    """Knows one token at a time."""

    def __init__(self) -> None:
        self.token = "1"
        self.asked = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"message": "Unauthorized"}, status=401)
        if request.path.endswith("/exec"):
            socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
            await socket.prepare(request)
            await socket.close()
            return socket
        return web.json_response({"metadata": {"name": "one"}, "gitVersion": "v1.30"})


def kubeconfig(directory: Path, port: int, user: dict[str, Any]) -> Access:
    path = directory / "kubeconfig"
    server = f"http://127.0.0.1:{port}"
    content = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(content))
    return Access(str(path))


def test_a_token_that_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubeconfig's plug-in gives another token. Requests at the same time need one login."""
    monkeypatch.setattr(module, "_RENEW_SECONDS", 0.0)
    plug_in = tmp_path / "plug_in.py"
    plug_in.write_text(PLUG_IN)
    login = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(plug_in), str(tmp_path / "count")],
    }

    async def run() -> None:
        api = Api()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", api.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        cluster = Cluster(kubeconfig(tmp_path, port, {"exec": login}))
        try:
            await cluster.version()
            api.token = "2"
            found = await asyncio.gather(*(cluster.read("lab", "one") for _ in range(5)))
            assert len(found) == 5
            assert (tmp_path / "count").read_text() == "2"
            api.token = "3"
            socket = await cluster.exec("lab", "one", "kernel", ["true"])
            await socket.close()
            api.token = "4"
            with pytest.raises(AuthenticationError, match=words("the session has expired: log in")):
                await cluster.version()
            kubeconfig(tmp_path, port, {"token": "4"})  # the user has logged in
            await cluster.version()
            asked = api.asked
            api.token = "5"
            with pytest.raises(AuthenticationError, match="does not know us"):
                await cluster.version()
            assert api.asked == asked + 2
        finally:
            await cluster.close()
            await runner.cleanup()

    asyncio.run(run())


def test_a_damaged_kubeconfig(tmp_path: Path) -> None:
    async def run(text: str) -> None:
        (tmp_path / "kubeconfig").write_text(text)
        cluster = Cluster(Access(str(tmp_path / "kubeconfig")))
        with pytest.raises(ConfigurationError, match="cannot read how to reach Kubernetes"):
            await cluster.ready()
        await cluster.close()

    for text in ("a: [", "users: 3\n", "- a\n", ""):
        asyncio.run(run(text))
