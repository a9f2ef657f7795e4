"""The page without JupyterLab, in a real browser: of a Jupyter server, and of the dashboard."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from remote_provisioners.server import page as page_package

from ..conftest import InstallSpec
from ..rig import Rig
from .applications import TOKEN, Applications, eventually
from .lab import SECONDS
from .openapi import DocumentedApi

pytestmark = pytest.mark.browser


@pytest.mark.usefixtures("home")
def test_the_page_of_a_server_shows_its_hosts_and_kernels(
    rig: Rig,
    tmp_path: Path,
    install_spec: InstallSpec,
    browser: Browser,
    pictures: Path,
) -> None:
    one, two = (host.target for host in rig.hosts)
    install_spec([one, two])
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        api = DocumentedApi(server)
        page = browser.new_page(viewport={"width": 420, "height": 800}, color_scheme="dark")
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://{server.address}/remote-provisioners/?token={TOKEN}")
        expect(page.locator(".rp-Summary")).to_contain_text("2 hosts", timeout=30 * SECONDS)
        expect(page.locator(f'[data-key="host {one}"]')).to_contain_text("not connected")
        started = api.ask("POST", "/kernels", {"name": "remote", "host": two}, 201)
        # By the server's events: nobody has touched the page.
        kernel = page.locator(".rp-Row-kernel")
        expect(kernel).to_contain_text("running", timeout=10 * SECONDS)
        expect(kernel).to_contain_text("remote")
        session = {"path": "a.ipynb", "name": "", "type": "notebook"}
        server.ask("POST", "/api/sessions", {**session, "kernel": {"id": started["id"]}})
        expect(kernel).to_contain_text("a.ipynb", timeout=10 * SECONDS)
        expect(page.locator(f'[data-key="host {two}"]')).to_contain_text("connected")
        page.get_by_role("button", name=f"Connect to {one} now").click()
        expect(page.locator(f'[data-key="host {one}"]')).to_contain_text(
            re.compile(r"\d ms"), timeout=20 * SECONDS
        )
        page.get_by_role("button", name=f"Add environments of {two}").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Environments of", timeout=20 * SECONDS)
        expect(dialog.locator(".rp-Environments")).to_be_visible()
        dialog.get_by_role("button", name=re.compile("Cancel|Close")).click()
        pictures.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(pictures / "page-dark.png"))
        kernel.hover()
        kernel.get_by_role("button", name=re.compile("^Shut down")).click()
        page.get_by_role("dialog").get_by_role("button", name="Shut down").click()
        expect(kernel).to_have_count(0, timeout=20 * SECONDS)
        eventually(lambda: api.ask("GET", "/kernels")["kernels"] == [])
        assert started["host"] == two
        assert errors == []


@pytest.mark.long
@pytest.mark.usefixtures("home")
def test_the_dashboard_shows_kernels_without_a_server_of_theirs(
    rig: Rig,
    tmp_path: Path,
    install_spec: InstallSpec,
    browser: Browser,
    pictures: Path,
) -> None:
    one, two = (host.target for host in rig.hosts)
    install_spec([one, two])
    with Applications(tmp_path) as applications:
        applications.configure("jupyter_server", leave_kernels_running=True)
        server = applications.server("server")
        body = {"name": "remote", "host": one}
        left = DocumentedApi(server).ask("POST", "/kernels", body, 201)["id"]
        server.end()
        dashboard = applications.jupyter("remote", "dashboard", "--no-browser", "--port=0")
        url = dashboard.expect(r"http://\S+").group()
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(url.partition("?")[0] + "api/v1/hosts", timeout=30)
        page = browser.new_page(viewport={"width": 900, "height": 600})
        page.goto(url)
        kernel = page.locator(".rp-Row-kernel")
        expect(kernel).to_contain_text("without a server", timeout=30 * SECONDS)
        expect(kernel).to_contain_text(left[:8])
        expect(page.locator(f'[data-key="host {one}"]')).to_contain_text("1 kernel ·")
        pictures.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(pictures / "dashboard.png"))
        kernel.hover()
        kernel.get_by_role("button", name=re.compile("^Shut down")).click()
        page.get_by_role("dialog").get_by_role("button", name="Shut down").click()
        expect(kernel).to_have_count(0, timeout=30 * SECONDS)
        for path in ("/api/contents", "/api/kernels", "/api/terminals", "/tree", "/lab"):
            base, _, token = url.partition("/remote-provisioners/")
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{base}{path}{token}", timeout=30)
            with refused.value:
                assert refused.value.code == 404, path
        dashboard.end()


#: Asks every host, which takes long. Meanwhile a kernel's event arrives. Returns whether the page
#: shows the kernel, and how often it has told a listener that comes after one that fails.
ASKS_WHILE_A_KERNEL_STARTS = """async () => {
  const { Fleet } = await import('/fleet.js');
  const kernels = [], kernel = { id: 'k1', host: 'host1' };
  let answer, told = 0;
  const asked = new Promise(resolve => { answer = resolve; });
  const fleet = new Fleet({
    hosts: async ask => { await (ask && asked); return { hosts: [], problems: [] }; },
    kernels: async () => ({ kernels: [...kernels], starts: [] })
  });
  fleet.listen(() => { throw new Error('a listener that fails'); });
  fleet.listen(() => { told += 1; });
  const reading = fleet.refresh(true);
  await new Promise(resolve => setTimeout(resolve, 10));
  kernels.push(kernel);
  answer();
  await reading;
  return [fleet.kernels.has('k1'), told];
}"""


#: A kernel moves from one node of an engine to the next, and ends there. Returns the shown hosts
#: after each, and the commands that attach to kernels there and on another host.
ENDS_ON_A_NODE = """async () => {
  const { Fleet } = await import('/fleet.js');
  const { attachLine } = await import('/words.js');
  const fleet = new Fleet({}), shown = [];
  const host = (name, way_in) => ({ name, way_in, kernels: { mine: 1, all: 1 } });
  const take = (kind, event) => {
    const schemas = 'https://schema.jupyter.org/remote_provisioners';
    fleet.take({ schema_id: `${schemas}/${kind}/v1`, ...event });
    shown.push([...fleet.hosts.keys()].join(' '));
  };
  take('host', { change: 'connected', host: host("host's", 'ssh') });
  take('host', { change: 'connected', host: host('node1', 'engine') });
  take('kernel', { change: 'running', kernel: { id: 'k1', host: 'node1' } });
  take('host', { change: 'connected', host: host('node2', 'engine') });
  take('kernel', { change: 'moved', former: 'node1', kernel: { id: 'k1', host: 'node2' } });
  const lines = [{ id: 'k1', host: 'node2' }, { id: 'k2', host: "host's" }].map(
    kernel => attachLine(kernel, fleet.hosts.get(kernel.host))
  );
  take('kernel', { change: 'gone', kernel: { id: 'k1', host: 'node2' } });
  take('kernel', { change: 'gone', kernel: { id: 'k2', host: "host's" } });
  return [shown, lines];
}"""


def test_a_kernel_that_starts_while_the_page_asks_hosts_is_shown(browser: Browser) -> None:
    page = browser.new_page()
    static = Path(page_package.__file__).with_name("static")
    page.route("**/fleet.html", lambda route: route.fulfill(body="", content_type="text/html"))
    page.route("**/*.js", lambda route: route.fulfill(path=static / Path(route.request.url).name))
    page.goto("http://page.test/fleet.html")
    assert page.evaluate(ASKS_WHILE_A_KERNEL_STARTS) == [True, 1]
    both = "host's node1 node2"
    assert page.evaluate(ENDS_ON_A_NODE) == [
        ["host's", "host's node1", "host's node1", both, "host's node2", "host's", "host's"],
        ["jupyter remote attach k1", "jupyter remote attach k2 --host='host'\\''s'"],
    ]
