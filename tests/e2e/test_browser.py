"""JupyterLab in a real browser: an open notebook outlives its server."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocket, expect

from ..conftest import InstallSpec
from ..rig import Rig
from .applications import (
    TOKEN,
    WHERE,
    Applications,
    Server,
    Signal,
    eventually,
    kernels_on,
    names_of,
)
from .lab import OPTIONS
from .test_kernel_gateway import RESTORING

pytestmark = pytest.mark.browser

LINES = 300
OPEN_SECONDS = 90.0
#: JupyterLab tries again after up to 1, 3, 7, 15, 31 seconds.
RECONNECTED_SECONDS = 90.0


class Notebook:
    """A notebook in an open page of JupyterLab, used by mouse and keyboard."""

    def __init__(self, page: Page) -> None:
        self._page = page
        # What JupyterLab says of a server that it cannot reach stays until somebody closes it.
        close = page.locator(".jp-Dialog button", has_text="Close")
        page.add_locator_handler(close, lambda button: button.click())

    def open(self, server: Server, path: str) -> None:
        """Open it, and wait until its kernel has said that it is idle."""
        heard: list[WebSocket] = []

        def opened(websocket: WebSocket) -> None:
            if "/api/kernels/" in websocket.url:
                websocket.on("framereceived", lambda _: heard.append(websocket))

        self._page.on("websocket", opened)
        self._page.goto(f"http://{server.address}/lab/tree/{path}?token={TOKEN}")
        deadline = time.monotonic() + OPEN_SECONDS
        while not heard:
            assert time.monotonic() < deadline, "the page has heard nothing of a kernel"
            self._page.wait_for_timeout(50)
        self.expect_status("idle", OPEN_SECONDS)

    def expect_status(self, status: str, seconds: float) -> None:
        """What its toolbar says of the kernel, sooner or later."""
        said = self._page.locator(".jp-Notebook-ExecutionIndicator")
        expect(said).to_have_attribute("data-status", status, timeout=seconds * 1000)

    def show(self, server: Server, path: str) -> None:
        """Open it, and wait for its cells only."""
        self._page.goto(f"http://{server.address}/lab/tree/{path}?token={TOKEN}")
        expect(self._cell(0).locator(".cm-content")).to_be_visible(timeout=OPEN_SECONDS * 1000)

    def expect_kernel(self, name: str) -> None:
        """Wait until the page has a kernel of that name, which may still start."""
        expect(self._page.locator(".jp-Toolbar-kernelName")).to_contain_text(name)

    def run(self, number: int) -> None:
        """Run a cell by its number."""
        self._cell(number).locator(".jp-InputArea-editor").click()
        self._cell(number).locator(".cm-content").press("Shift+Enter")

    def expect_output(self, number: int, text: str, seconds: float = 60.0) -> None:
        """What the cell has printed is exactly this, sooner or later."""
        output = self._cell(number).locator(".jp-OutputArea-output pre")
        expect(output).to_have_text(text, use_inner_text=True, timeout=seconds * 1000)

    def expect_prompt(self, number: int, prompt: str) -> None:
        found = self._cell(number).locator(".jp-InputPrompt")
        expect(found).to_have_text(prompt, timeout=20_000)

    def _cell(self, number: int) -> Locator:
        return self._page.locator(".jp-Notebook .jp-CodeCell").nth(number)


def write_notebook(path: Path, *cells: str) -> None:
    code = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    content = {
        "cells": [{**code, "id": f"cell-{n}", "source": text} for n, text in enumerate(cells)],
        "metadata": {"kernelspec": {"name": "remote", "display_name": "remote"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("ends", [pytest.param("after", marks=pytest.mark.long), "meanwhile"])
def test_an_open_notebook_outlives_its_server(
    rig: Rig, home: Path, tmp_path: Path, install_spec: InstallSpec, browser: Browser, ends: str
) -> None:
    """A cell prints while no server is there, and ends then or later; the page is only watched."""
    host = rig.hosts[0]
    install_spec(host.target)
    away, back = Signal(host), Signal(host)
    printed = "".join(f"{number}\n" for number in range(LINES))
    with Applications(tmp_path) as applications:
        write_notebook(
            applications.root / "one.ipynb",
            "import os, time; kept = 41; print('made')",
            f"print('on', flush=True)\n{away.wait}"
            f"for number in range({LINES}): print(number, flush=True)\n"
            f"{back.wait}print('done')",
            "print(kept + 1)",
        )
        server = applications.server("lab", *OPTIONS)
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        notebook = Notebook(page)
        notebook.open(server, "one.ipynb")
        before = server.ask("GET", "/api/sessions")[1]
        notebook.run(0)
        notebook.expect_output(0, "made\n")
        notebook.run(1)
        notebook.expect_output(1, "on\n")

        time.sleep(0.5)  # what a server has not acknowledged yet would come again
        server.process.kill()
        server.process.wait()
        away.give()
        if ends == "meanwhile":
            back.give()
        notebook.expect_status("connecting", 30)
        server = applications.server("lab", *OPTIONS, port=server.port)
        if ends == "after":
            notebook.expect_output(1, f"on\n{printed}", RECONNECTED_SECONDS)
            back.give()
        notebook.expect_output(1, f"on\n{printed}done\n", RECONNECTED_SECONDS)
        notebook.expect_status("idle", 20)
        if ends == "after":
            notebook.expect_prompt(1, "[2]:")
        notebook.run(2)
        notebook.expect_output(2, "42\n")
        notebook.expect_prompt(2, "[3]:")
        (session,) = server.ask("GET", "/api/sessions")[1]
        assert (session["id"], session["kernel"]["id"]) == (
            before[0]["id"],
            before[0]["kernel"]["id"],
        )
    away.remove()
    back.remove()


@pytest.mark.long
def test_a_cell_that_is_run_while_its_kernel_starts(
    rig: Rig, home: Path, tmp_path: Path, install_spec: InstallSpec, browser: Browser
) -> None:
    install_spec(rig.hosts[0].target, environment_hook="sleep 8; export MADE=41")
    with Applications(tmp_path) as applications:
        write_notebook(applications.root / "one.ipynb", "import os; print(os.environ['MADE'])")
        server = applications.server("lab", *OPTIONS)
        notebook = Notebook(browser.new_page(viewport={"width": 1200, "height": 1000}))
        notebook.show(server, "one.ipynb")
        eventually(lambda: server.ask("GET", "/api/sessions")[1])  # it is listed while it starts
        notebook.expect_kernel("remote")  # the page knows it as well
        notebook.run(0)
        notebook.expect_output(0, "41\n", 40)
        notebook.expect_prompt(0, "[1]:")


def test_a_kernel_that_does_not_start_says_why(
    rig: Rig, home: Path, tmp_path: Path, install_spec: InstallSpec, browser: Browser
) -> None:
    install_spec(
        rig.hosts[0].target, environment_hook="sleep 1; echo no module of that name >&2; exit 3"
    )
    with Applications(tmp_path) as applications:
        write_notebook(applications.root / "one.ipynb", "print(6 * 7)")
        server = applications.server("lab", *OPTIONS)
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.goto(f"http://{server.address}/lab/tree/one.ipynb?token={TOKEN}")
        dialog = page.locator(".jp-Dialog")
        expect(dialog).to_contain_text("no module of that name", timeout=OPEN_SECONDS * 1000)
        assert server.end() == 0


@pytest.mark.long
@pytest.mark.parametrize("application", ["kernelgateway", "server"])
def test_a_gateway_is_killed_and_started_again(
    rig: Rig,
    home: Path,
    tmp_path: Path,
    install_spec: InstallSpec,
    browser: Browser,
    application: str,
) -> None:
    """JupyterLab's kernels are those of a gateway, which has them on hosts."""
    install_spec()
    with Applications(tmp_path) as applications:
        name = {"kernelgateway": "jupyter_kernel_gateway", "server": "jupyter_server"}[application]
        applications.configure(name, remote_hosts=[rig.hosts[0].target])
        if application == "kernelgateway":
            with (applications.config / f"{name}_config.py").open("a") as file:
                file.write(RESTORING)
        listed = ("--JupyterWebsocketPersonality.list_kernels=True",)
        listed = listed if application == "kernelgateway" else ()
        gateway = applications.server(application, *listed)
        write_notebook(applications.root / "one.ipynb", f"kept = 41; {WHERE}", "print(kept + 1)")
        url = f"--GatewayClient.url=http://{gateway.address}"
        lab = applications.server("lab", *OPTIONS, url, JUPYTER_GATEWAY_AUTH_TOKEN=TOKEN)
        notebook = Notebook(browser.new_page(viewport={"width": 1200, "height": 1000}))
        notebook.open(lab, "one.ipynb")
        notebook.run(0)
        (kernel,) = kernels_on(rig.hosts[0])
        notebook.expect_output(0, f"{names_of(rig)[0]} {kernel}\n")
        notebook.expect_status("idle", 20)
        gateway.process.kill()
        gateway.process.wait()
        gateway = applications.server(application, *listed, port=gateway.port)
        # JupyterLab's server drops what a page sends before the server is connected again.
        eventually(lambda: gateway.ask("GET", "/api/kernels")[1][0]["connections"], 60)
        notebook.run(1)
        notebook.expect_output(1, "42\n", RECONNECTED_SECONDS)
        assert lab.end() == 0  # it asks the gateway to end its kernels
        assert gateway.end() == 0
