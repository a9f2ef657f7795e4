"""YARN that lets nobody in without a ticket: its REST API, and a kernel there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from remote_provisioners.cli.spec.samples import SparkSite
from remote_provisioners.engines.yarn.engine import kill_by_client
from remote_provisioners.engines.yarn.resource_manager import Application, ResourceManager
from remote_provisioners.engines.yarn.spnego import Negotiation
from remote_provisioners.errors import AuthenticationError, UnreachableError

from ..conftest import Start, words
from ..rig import Relay, Rig, kdc, open_rig
from . import cluster, yarn
from .conftest import InstallSample
from .kerberos import TLS_PORT, SecureYarn
from .requirements import need

pytestmark = pytest.mark.yarn

NAME = "spark_python_yarn_cluster"


@pytest.fixture(scope="module")
def secure_rig() -> Iterator[Rig]:
    need(cluster.unavailable() or yarn.unavailable() or kdc.unavailable())
    opened = open_rig(2)
    if not opened.own_address:
        need("needs root and network namespaces: each host of a cluster has its address")
    with opened:
        yield opened


@pytest.fixture(scope="module")
def secure_yarn(secure_rig: Rig) -> Iterator[SecureYarn]:
    """And be alice, who has a ticket."""
    with (
        tempfile.TemporaryDirectory(prefix="yarn-staging-", dir=sys.prefix) as shared,
        pytest.MonkeyPatch.context() as patch,
    ):
        tickets = kdc.Kdc(secure_rig.hosts[0], Path(shared))
        for name, value in tickets.environ("alice").items():
            patch.setenv(name, value)
        made = SecureYarn(secure_rig.hosts, Path(shared), tickets)
        made.open()
        yield made


def _check(manager: ResourceManager) -> None:
    asyncio.run(manager.check())


def _submitted(manager: ResourceManager, tag: str) -> None:
    """An application that sleeps, as anybody may submit one by REST."""

    async def submit() -> None:
        made = await manager.ask("apps/new-application", method="POST", body="")
        command = {"commands": {"command": "sleep 600"}}
        wanted = {
            "application-id": made["application-id"],
            "application-name": tag,
            "am-container-spec": command,
            "application-type": "test",
            "application-tags": {"tag": [tag]},
            "resource": {"memory": 128, "vCores": 1},
            "max-app-attempts": 1,
        }
        await manager.ask("apps", method="POST", body=json.dumps(wanted))

    asyncio.run(submit())


async def _until(manager: ResourceManager, tag: str, state: str) -> Application:
    deadline = time.monotonic() + 30
    while True:
        found = await manager.find(tag)
        if found is not None and found.state == state:
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)


@pytest.mark.long
def test_an_application_is_followed_and_killed(secure_yarn: SecureYarn) -> None:
    manager = secure_yarn.manager()
    _submitted(manager, "sleeps")

    async def life() -> None:
        application = await _until(manager, "sleeps", "ACCEPTED")
        await manager.kill(application.id)
        ended = await _until(manager, "sleeps", "KILLED")
        assert "by user alice@" in ended.diagnostics or "user alice" in ended.diagnostics

    asyncio.run(life())
    secure_yarn.gone()


@pytest.fixture
def name(install_sample: InstallSample, secure_yarn: SecureYarn) -> str:
    """An installed kernelspec."""
    conf = secure_yarn.configuration
    site = SparkSite(cluster.spark_home(), hadoop_conf_dir=conf, python=sys.executable)
    java = {"JAVA_TOOL_OPTIONS": secure_yarn.java}
    at_once = " --conf spark.scheduler.minRegisteredResourcesRatio=0"  # without an executor
    return install_sample(NAME, site, env=java, options=secure_yarn.options + at_once)


@pytest.mark.long
def test_whose_ticket(secure_yarn: SecureYarn) -> None:
    """That of the cache which the kernelspec names, not of the server's own."""
    secure_yarn.kdc.add_user("bob")
    manager = ResourceManager([secure_yarn.endpoint], secure_yarn.kdc.log_in("bob"))
    _submitted(manager, "whose")
    assert secure_yarn.users() == ["bob"]

    async def end() -> None:
        await manager.kill((await _until(manager, "whose", "ACCEPTED")).id)

    asyncio.run(end())
    secure_yarn.gone()


@pytest.mark.long
def test_who_may_kill(secure_yarn: SecureYarn) -> None:
    """Who submitted it: also where that was done for somebody else, by REST or by Hadoop."""
    own, for_bob = secure_yarn.manager(), secure_yarn.manager(user="bob")
    _submitted(for_bob, "of-bob-1")
    _submitted(for_bob, "of-bob-2")

    async def life() -> None:
        first = await _until(for_bob, "of-bob-1", "ACCEPTED")
        second = await _until(for_bob, "of-bob-2", "ACCEPTED")
        with pytest.raises(UnreachableError, match=words("HTTP 403")):
            await own.kill(first.id)
        await for_bob.kill(first.id)
        await _until(for_bob, "of-bob-1", "KILLED")
        java = {"JAVA_HOME": cluster.java_home(), "JAVA_TOOL_OPTIONS": secure_yarn.java}
        conf = {"HADOOP_CONF_DIR": secure_yarn.configuration, "RP_PROXY_USER": "bob"}
        spark = {"SPARK_HOME": cluster.spark_home()}
        await kill_by_client(second.id, {**os.environ, **java, **conf, **spark})
        await _until(for_bob, "of-bob-2", "KILLED")

    asyncio.run(life())
    secure_yarn.gone()


def test_a_kernel(
    secure_yarn: SecureYarn, name: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """spark-submit and the REST API with alice's ticket; the application is bob's."""
    monkeypatch.setenv("RP_IMPERSONATION", "true")
    session = start(name, env={"KERNEL_USERNAME": "bob"})
    assert session.run("print(sc.sparkUser())", 120) == "bob\n"
    session.manager.shutdown_kernel()
    secure_yarn.gone()


# -- what goes wrong, each with its own error --------------------------------------------------


def test_no_ticket(
    secure_yarn: SecureYarn, name: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before anything is submitted, for the cache that spark-submit would read."""
    for variable, value in secure_yarn.kdc.environ("nobody").items():
        monkeypatch.setenv(variable, value)
    said = r"asks for a Kerberos ticket, and there is none: .*nobody.tickets.*; run kinit"
    with pytest.raises(AuthenticationError, match=words(f"{secure_yarn.endpoint}: it {said}")):
        start(name)


def test_a_ticket_that_has_expired(
    secure_yarn: SecureYarn, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure_yarn.kdc.log_in("alice", "-l", "1s", cache="late")
    monkeypatch.setenv("KRB5CCNAME", secure_yarn.kdc.environ("late")["KRB5CCNAME"])
    time.sleep(2)
    with pytest.raises(
        AuthenticationError, match=words(r"has expired .*late.tickets.*; run kinit")
    ):
        _check(secure_yarn.manager())


def test_no_gssapi(secure_yarn: SecureYarn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gssapi", None)
    advice = words(r"pip install 'remote-provisioners\[kerberos\]'")
    with pytest.raises(AuthenticationError, match=advice):
        _check(secure_yarn.manager())


def test_a_clock_that_is_wrong(secure_yarn: SecureYarn) -> None:
    """Also: the certificates that SSL_CERT_FILE names are the ones that count."""
    code = """
import asyncio, os, sys
from remote_provisioners.engines.yarn.resource_manager import ResourceManager
asyncio.run(ResourceManager([sys.argv[1]], os.environ).check())
"""
    environ = {**os.environ, "SSL_CERT_FILE": str(secure_yarn.authority)}
    program = [sys.executable, "-c", code, secure_yarn.endpoint]
    subprocess.run(program, env=environ, check=True)
    wrong = ["faketime", "+20 minutes", *program]
    done = subprocess.run(wrong, env=environ, check=False, capture_output=True, text=True)
    assert "Clock skew too great" in " ".join(done.stderr.split()), done.stderr


def test_a_name_that_nobody_has_a_key_for(secure_yarn: SecureYarn, secure_rig: Rig) -> None:
    """Unknown to the KDC; known to the KDC and not to the ResourceManager."""
    with Relay((secure_rig.hosts[0].address, TLS_PORT), name="relay") as relay:
        manager = secure_yarn.manager(f"https://{relay.address}:{relay.port}")
        unknown = f"no ticket for HTTP@{relay.address}: .*not found in Kerberos database"
        with pytest.raises(AuthenticationError, match=words(unknown)):
            _check(manager)
        secure_yarn.kdc.add_unknown(f"HTTP/{relay.address}")
        with pytest.raises(
            AuthenticationError, match=words("refuses our Kerberos ticket: HTTP 403")
        ):
            _check(manager)


def test_an_impostor(secure_yarn: SecureYarn) -> None:
    """One that has no key and lets everybody in."""
    secure_yarn.kdc.add_unknown("HTTP/localhost")
    # Without a word; with nonsense; with SPNEGO's "accepted", and no proof of it; not asking.
    for answer in ("Negotiate", "Negotiate bm9uc2Vuc2U=", "Negotiate oQcwBaADCgEA", ""):
        said = words("does not show by Kerberos that it is HTTP@localhost")
        with impostor(answer) as endpoint, pytest.raises(AuthenticationError, match=said):
            _check(secure_yarn.manager(endpoint, secure=not answer))


@contextmanager
def impostor(answer: str) -> Iterator[str]:
    """Its address. It asks for Kerberos if it has an answer to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asks = answer and "Authorization" not in self.headers
            self.send_response(401 if asks else 200)
            if answer:
                self.send_header("WWW-Authenticate", "Negotiate" if asks else answer)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_kdc_that_is_silent(secure_yarn: SecureYarn) -> None:
    """Who else lives in the event loop does not wait for it."""

    async def ask() -> None:
        asked = asyncio.ensure_future(Negotiation("127.0.0.9", os.environ).authorization())
        for _ in range(50):
            await asyncio.sleep(0.01)
        assert not asked.done()
        secure_yarn.kdc.signal("CONT")
        with pytest.raises(AuthenticationError, match=words(r"HTTP@127.0.0.9: .*not found")):
            await asked

    secure_yarn.kdc.signal("STOP")
    try:
        asyncio.run(ask())
    finally:
        secure_yarn.kdc.signal("CONT")


# -- high availability -------------------------------------------------------------------------


def test_the_active_one_is_lost(secure_yarn: SecureYarn) -> None:
    """The last test here: the cluster is not what it was after it."""
    manager = secure_yarn.manager(secure_yarn.standby, secure_yarn.endpoint)
    _check(manager)
    assert manager.endpoints == [secure_yarn.endpoint, secure_yarn.standby]
    secure_yarn.lose(0)
    with pytest.raises(UnreachableError, match=words(r"HTTP 307: .*(standby|active) RM")):
        _check(manager)
    secure_yarn.activate(1)
    _check(manager)
    assert manager.endpoints == [secure_yarn.standby, secure_yarn.endpoint]
