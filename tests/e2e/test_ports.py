"""Web pages on the hosts of kernels: through the server, and by jupyter remote forward."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket

from remote_provisioners.cli.command import CommandError
from remote_provisioners.cli.forward.app import ports

from ..conftest import InstallSpec, Start
from ..contract.test_ports import exchange, listen, ports_of
from ..rig import Rig
from .applications import AUTHORIZATION, TOKEN, Applications, Server
from .openapi import DocumentedApi

#: A web application with pages, forms, cookies, redirects and a websocket, of tornado's own.
APPLICATION = """
import asyncio, json, socket, threading
import tornado.httpserver, tornado.netutil, tornado.web, tornado.websocket

class Page(tornado.web.RequestHandler):
    def get(self, path):
        self.set_cookie("app", "1")
        self.set_cookie("_xsrf", "stolen")
        self.finish({"host": socket.gethostname(), "uri": self.request.uri,
                     "headers": dict(self.request.headers)})
    def post(self, path):
        self.finish(self.request.body[::-1])

class Away(tornado.web.RequestHandler):
    def get(self):
        self.redirect(self.get_argument("to", f"http://localhost:{PORT}/there"))

class Events(tornado.web.RequestHandler):
    more = asyncio.Event()
    async def get(self):
        self.set_header("Content-Type", "text/event-stream")
        self.set_cookie("_xsrf", "stolen")
        for text in ("one", "two"):
            self.write(f"data: {text}" + 2 * chr(10))
            await self.flush()
            await Events.more.wait()
    def post(self):
        Events.more.set()

class Large(tornado.web.RequestHandler):
    async def get(self, megabytes, promised):
        if promised:
            self.set_header("Content-Length", int(promised) * 2**20)
        for _ in range(int(megabytes)):
            self.write(bytes(2**20))
            await self.flush()
    def head(self, megabytes, promised):
        self.set_header("Content-Length", int(promised) * 2**20)
        self.set_header("Etag", "its own")

class Cut(tornado.web.RequestHandler):
    async def get(self):
        self.write(b"some")
        await self.flush()
        self.request.connection.stream.close()

class Echo(tornado.websocket.WebSocketHandler):
    def open(self):
        self.write_message(json.dumps(dict(self.request.headers)))
    def on_message(self, message):
        if message == "leave":
            return self.close()
        self.write_message(message[::-1], binary=isinstance(message, bytes))

sockets = tornado.netutil.bind_sockets(PORT, "127.0.0.1")
PORT = sockets[0].getsockname()[1]

def serve():
    async def main():
        application = tornado.web.Application(
            [("/away", Away), ("/ws", Echo), ("/events", Events), ("/cut", Cut),
             ("/large/([0-9]+)/([0-9]*)", Large), ("/(.*)", Page)],
            websocket_max_message_size=2**25)
        tornado.httpserver.HTTPServer(application).add_sockets(sockets)
        await asyncio.Event().wait()
    asyncio.run(main())

threading.Thread(target=serve, daemon=True).start()
print(PORT)
"""


@pytest.fixture
def server(rig: Rig, home: Path, tmp_path: Path, install_spec: InstallSpec) -> Iterator[Server]:
    install_spec([host.target for host in rig.hosts])
    with Applications(tmp_path) as applications:
        yield applications.server("server")


class Browser:
    """What a browser sends that is logged in to a Jupyter server."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection(self.server.address, timeout=60)
        try:
            connection.request(method, path, body, {**AUTHORIZATION, **headers})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()


def start_application(server: Server, kernel_id: str, port: int = 0) -> int:
    return int(server.run(kernel_id, f"PORT = {port}\n{APPLICATION}"))


def test_pages_and_websockets_of_a_kernels_host(rig: Rig, server: Server) -> None:
    host = rig.hosts[0]
    api, browser = DocumentedApi(server), Browser(server)
    body = {"name": "remote", "host": host.target}
    kernel_id = api.ask("POST", "/kernels", body, 201)["id"]
    assert api.ask("GET", "/ports")["kernels"] == [{"id": kernel_id, "ports": []}]
    port = start_application(server, kernel_id)
    (found,) = api.ask("GET", "/ports")["kernels"][0]["ports"]
    page = f"/remote-provisioners/kernels/{kernel_id}/port/{port}/"
    assert (found["number"], found["url"], found["chosen"]) == (port, page, False)

    home = f"http://{server.address}"
    status, headers, text = browser.ask(
        "GET",
        f"{page}a/b?token={TOKEN}&x=1",
        Cookie="_xsrf=2|a; app=1; username-127-0-0-1-8888=secret; jupyterhub-user-a=secret",
        Referer=f"{home}/lab?token={TOKEN}",
        Origin=home,
    )
    seen = json.loads(text)
    assert status == 200
    assert (seen["host"], seen["uri"]) == (host.run(["hostname"]).strip(), "/a/b?x=1")
    assert "secret" not in str(seen)
    assert TOKEN not in str(seen)
    assert "Authorization" not in seen["headers"]
    assert seen["headers"]["Cookie"] == "app=1"
    assert seen["headers"]["Host"] == f"localhost:{port}"
    cookies = headers.get_all("Set-Cookie") or []
    assert "app=1; Path=/" in cookies
    assert "stolen" not in str(cookies)

    assert browser.ask("GET", page[:-1])[1]["Location"] == page
    for to, leads in (
        (f"http://localhost:{port}/there", f"{page}there"),
        ("/there?x=%2F", f"{page}there?x=%2F"),
        (f"{page}there", f"{page}there"),
        ("there", "there"),
        ("http://elsewhere.example/a", "http://elsewhere.example/a"),
        ("//elsewhere.example/a", "//elsewhere.example/a"),
    ):
        asked = f"{page}away?to={urllib.parse.quote(to, safe='')}"
        assert browser.ask("GET", asked)[1]["Location"] == leads
    odd = f"a%2Fb%3Fc%20d/e%C3%A4?f=%2B&token={TOKEN}&g=a/b"
    assert json.loads(browser.ask("GET", page + odd)[2])["uri"] == "/" + odd.replace(
        f"token={TOKEN}&", ""
    )
    assert browser.ask("POST", page, b"12345" * 100_000)[2] == b"54321" * 100_000
    login = next(cookie for cookie in cookies if cookie.startswith("username-")).split(";")[0]
    elsewhere = {"Origin": "http://elsewhere.example", "Cookie": login, "Authorization": ""}
    assert browser.ask("POST", page, b"", **elsewhere)[0] == 403
    assert browser.ask("POST", page, b"1", **{**elsewhere, "Origin": home})[0] == 200
    assert json.loads(browser.ask("GET", page.replace("/port/", "/proxy/"))[2])["uri"] == "/"
    absolute = page.replace("/port/", "/proxy/absolute/")
    assert json.loads(browser.ask("GET", f"{absolute}x")[2])["uri"] == f"{absolute}x"

    address = f"ws://{server.address}{page}ws?token={TOKEN}"
    opened = websocket.create_connection(address, header=AUTHORIZATION, timeout=30)
    said = opened.recv()
    assert TOKEN not in said
    opened.send("text")
    assert opened.recv() == "txet"
    for size in (100_000, 11 * 2**20):
        opened.send_binary(bytes(size) + b"\1")
        assert opened.recv() == b"\1" + bytes(size)
    opened.send("leave")
    assert opened.recv_data(control_frame=True)[0] == websocket.ABNF.OPCODE_CLOSE
    opened.shutdown()
    opened = websocket.create_connection(address.replace("/ws?", "/no?"), header=AUTHORIZATION)
    kind, said = opened.recv_data(control_frame=True)
    assert (kind, b"port" in said) == (websocket.ABNF.OPCODE_CLOSE, True), said
    opened.shutdown()
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(
            address.partition("?")[0], cookie=login, origin="http://elsewhere.example", timeout=30
        )
    assert refused.value.status_code == 403

    status, _, text = browser.ask("GET", page.replace(f"/{port}/", "/1/"))
    assert status == 502
    assert b"port 1: no program of this user listens there" in text
    for other in ("/0/", "/65536/"):
        assert browser.ask("GET", page.replace(f"/{port}/", other))[0] == 404
    assert browser.ask("GET", page.replace(kernel_id, "nosuch"))[0] == 404
    api.ask("DELETE", f"/kernels/{kernel_id}", expect=204)
    assert browser.ask("GET", page)[0] == 404


def test_answers_arrive_while_the_program_writes_them(rig: Rig, server: Server) -> None:
    kernel_id = server.start_kernel()
    port = start_application(server, kernel_id)
    page = f"/remote-provisioners/kernels/{kernel_id}/proxy/{port}"
    browser = Browser(server)
    connection = http.client.HTTPConnection(server.address, timeout=60)
    connection.request("GET", f"{page}/events", None, AUTHORIZATION)
    answer = connection.getresponse()
    assert (answer.readline(), answer.readline()) == (b"data: one\n", b"\n")
    assert "stolen" not in str(answer.headers)
    assert browser.ask("POST", f"{page}/events", b"")[0] == 200
    assert answer.read() == b"data: two\n\n"
    connection.close()

    status, headers, data = browser.ask("GET", f"{page}/large/3/3")
    assert (status, headers["Content-Length"], data) == (200, str(3 * 2**20), bytes(3 * 2**20))
    assert browser.ask("GET", f"{page}/large/3/")[2] == bytes(3 * 2**20)
    status, headers, data = browser.ask("HEAD", f"{page}/large/3/3")
    assert (headers["Content-Length"], headers["Etag"], data) == (str(3 * 2**20), "its own", b"")
    for cut in ("cut", "large/1/2"):  # it must not look complete
        with pytest.raises(http.client.IncompleteRead):
            browser.ask("GET", f"{page}/{cut}")
    assert browser.ask("GET", f"{page}/")[0] == 200

    raw = "import socket, threading\nlistener = socket.create_server(('127.0.0.1', 0))\n"
    raw += "def serve():\n    while True: listener.accept()[0].sendall(b'SSH-2.0-x\\r\\n\\r\\n')\n"
    raw += "threading.Thread(target=serve, daemon=True).start()\nprint(listener.getsockname()[1])"
    other = int(server.run(kernel_id, raw))
    status, _, data = browser.ask("GET", page.replace(str(port), str(other)) + "/")
    assert (status, b"does not answer as a web server does" in data) == (502, True), data


@pytest.mark.long
def test_a_large_answer_takes_no_memory(rig: Rig, server: Server) -> None:
    kernel_id = server.start_kernel()
    port = start_application(server, kernel_id)
    page = f"/remote-provisioners/kernels/{kernel_id}/proxy/{port}"

    def taken(path: str) -> int:
        connection = http.client.HTTPConnection(server.address, timeout=60)
        connection.request("GET", f"{page}/{path}", None, AUTHORIZATION)
        answer, size = connection.getresponse(), 0
        while piece := answer.read(2**20):
            size += len(piece)
        connection.close()
        return size

    assert taken("large/8/8") == 8 * 2**20
    before = server.most_memory
    began = time.monotonic()
    assert taken("large/500/500") == 500 * 2**20
    print(f"{500 / (time.monotonic() - began):.0f} MiB/s")
    assert server.most_memory < before + 32 * 2**20


def test_who_is_not_logged_in_reaches_no_port(rig: Rig, server: Server) -> None:
    kernel_id = server.start_kernel()
    port = start_application(server, kernel_id)
    page = f"/remote-provisioners/kernels/{kernel_id}/proxy/{port}/"
    for headers in ({}, {"Authorization": "token wrong"}):
        connection = http.client.HTTPConnection(server.address, timeout=30)
        connection.request("GET", page, headers=headers)
        answer = connection.getresponse()
        assert (answer.status, "login" in answer.headers["Location"]) == (302, True)
        connection.close()
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            websocket.create_connection(f"ws://{server.address}{page}ws", header=headers)
        assert refused.value.status_code == 403


def test_no_user_reaches_the_ports_of_another(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    """Alice and root have kernels on one host, and each listens on a port."""
    if not rig.own_address:
        pytest.skip("needs hosts with users of their own")
    name = install_spec("{username}@" + rig.hosts[0].target, unauthorized_users=["nobody"])
    alice = start(name, env={"KERNEL_USERNAME": "alice"})
    root = start(name, env={"KERNEL_USERNAME": "root"})
    of_alice, of_root = listen(alice), listen(root)
    assert exchange(alice, of_alice, b"ab") == b"ba"
    assert exchange(root, of_root, b"ab") == b"ba"
    for session, port in ((alice, of_root), (root, of_alice)):
        answer = exchange(session, port, b"ab")
        assert answer.startswith(b"HTTP/1.1 502")
        assert b"no program of this user listens there" in answer
    (found,) = ports_of(root).kernels[0].ports
    assert found.number == of_root


@pytest.mark.long
def test_the_operator_can_turn_it_off(
    rig: Rig, home: Path, tmp_path: Path, install_spec: InstallSpec
) -> None:
    install_spec([rig.hosts[0].target])
    with Applications(tmp_path) as applications:
        server = applications.server("server", "--RemoteAccess.proxy_ports=False")
        api = DocumentedApi(server)
        kernel_id = server.start_kernel()
        port = start_application(server, kernel_id)
        (found,) = api.ask("GET", "/ports")["kernels"][0]["ports"]
        assert (found["number"], found["url"]) == (port, None)
        page = f"/remote-provisioners/kernels/{kernel_id}/proxy/{port}/"
        status, _, text = Browser(server).ask("GET", page)
        assert status == 403
        assert b"the proxy is off on this server" in text


@contextmanager
def forwarded(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`jupyter remote forward`, and the line that it prints."""
    command = [sys.executable, "-m", "remote_provisioners.cli.app", "forward", *words]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            yield process, process.stdout.readline().strip()  # type: ignore[union-attr]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def test_a_port_on_this_machine(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    session = start(install_spec([host.target for host in rig.hosts]))
    port = listen(session)
    kernel_id = session.manager.kernel_id
    with forwarded(kernel_id[:8], f"{port}:0") as (process, line):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", line)
        local = int(line.rpartition(":")[2])
        for data in (b"ab" * 100_000, b"once more"):
            with socket.create_connection(("127.0.0.1", local), 60) as client:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: client.recv(65536), b""))
            assert answer == data[::-1]
        if os.getuid() == 0:  # another user of this machine
            other = (
                "import encodings.idna, os, socket; os.setuid(65534)\n"
                f"client = socket.create_connection(('127.0.0.1', {local}))\n"
                "try: client.sendall(b'x'); print(client.recv(9))\n"
                "except ConnectionError: print(b'')"
            )
            said = subprocess.run([sys.executable, "-c", other], capture_output=True, check=True)
            assert said.stdout.strip() == b"b''"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


@pytest.mark.long
def test_ports_that_cannot_be_forwarded(
    rig: Rig, home: Path, install_spec: InstallSpec, start: Start
) -> None:
    kernel_id = start(install_spec([rig.hosts[0].target])).manager.kernel_id
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        forwarded(kernel_id, f"80:{taken.getsockname()[1]}") as (process, _),
    ):
        assert process.wait(60) == 1
        assert "Address already in use" in process.stderr.read()  # type: ignore[union-attr]
    with forwarded(kernel_id, "1:0") as (process, line):
        client = socket.create_connection(("127.0.0.1", int(line.rpartition(":")[2])), 60)
        with client, contextlib.suppress(ConnectionError):
            assert client.recv(1) == b""
        said = process.stderr.readline()  # type: ignore[union-attr]
        assert "port 1: no program of this user listens there" in said


@pytest.mark.parametrize("word", ["", "x", "0", "65536", "80:", "80:-1", "80:x", "80:1:2"])
def test_what_is_no_port(word: str) -> None:
    with pytest.raises(CommandError):
        ports(word)
