"""Remote hosts and kernels in JupyterLab, in a real browser, as a person uses it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from ..conftest import InstallSpec
from ..rig import Rig
from .applications import Applications, eventually
from .lab import OPTIONS, SECONDS, Lab, install_extension
from .openapi import DocumentedApi

#: A web page, from a port that a person has chosen.
PAGE = """
import http.server, threading
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"a page of the host")
    def log_message(self, *_): pass
served = http.server.ThreadingHTTPServer(("127.0.0.1", 8317), Page)
threading.Thread(target=served.serve_forever, daemon=True).start()
"""

pytestmark = pytest.mark.browser


def test_a_person_chooses_a_host_sees_it_and_moves_on(
    rig: Rig,
    home: Path,
    tmp_path: Path,
    install_spec: InstallSpec,
    browser: Browser,
    pictures: Path,
) -> None:
    one, two = (host.target for host in rig.hosts)
    install_spec([{"host": one, "labels": ["big"], "capacity": 9, "gpus": 2}, two])
    install_extension(tmp_path)
    with Applications(tmp_path) as applications:
        server = applications.server("lab", *OPTIONS)
        lab = Lab(browser, server, pictures)
        lab.open()
        lab.picture("launcher")
        lab.page.locator(".jp-LauncherCard", has_text="remote on …").click()
        dialog = lab.page.locator(".jp-Dialog")
        dialog.locator(".rp-Choice").wait_for()
        expect(dialog.locator("label", has_text=two)).to_contain_text("load", timeout=20 * SECONDS)
        lab.picture("choice")
        dialog.locator("label", has_text=two).click()
        chosen = dialog.locator("label", has_text=two).get_by_role("radio")
        expect(chosen).to_be_checked()
        # JupyterLab takes the look of radio buttons away.
        assert chosen.evaluate("element => getComputedStyle(element).appearance") == "auto"
        dialog.locator("button", has_text="Run There").click()
        expect(lab.toolbar).to_have_text(two, timeout=40 * SECONDS)
        lab.toolbar.click()
        details = lab.page.locator(".rp-Details")
        expect(details).to_contain_text("MiB", timeout=20 * SECONDS)
        expect(details).to_contain_text("Directory")
        lab.picture("details")
        lab.page.keyboard.press("Escape")
        (kernel_id,) = (k["id"] for k in DocumentedApi(server).ask("GET", "/kernels")["kernels"])
        server.run(kernel_id, PAGE)
        notice = lab.page.locator(".Toastify__toast", has_text="listens on port 8317")
        notice.wait_for()
        lab.picture("port")
        with lab.page.context.expect_page() as opened:
            notice.get_by_role("button", name="Open").click()
        expect(opened.value.locator("body")).to_have_text("a page of the host")
        address = opened.value.url
        opened.value.close()
        lab.toolbar.click()
        link = details.get_by_role("link", name=f"Open port 8317 of {two}")
        expect(link).to_have_attribute("href", re.compile(re.escape(urlsplit(address).path) + "$"))
        lab.page.keyboard.press("Escape")
        expect(details).to_have_count(0)
        lab.show_hosts()
        row = lab.host_row(two)
        expect(row).to_contain_text("connected")
        expect(row.get_by_role("meter", name="Load")).to_be_visible()
        kernel = lab.page.locator(".rp-Row-kernel")
        expect(kernel).to_contain_text("Untitled.ipynb")
        lab.picture("panel")
        for host in (one, two):  # in a narrow panel
            for button in lab.host_row(host).locator(".rp-Facts button").all():
                expect(button).to_be_in_viewport(ratio=1)
        kernel.get_by_role("button", name=re.compile("Restart .* elsewhere")).click()
        dialog.locator("label", has_text=one).click()
        dialog.locator("button", has_text="Restart There").click()
        expect(lab.toolbar).to_have_text(one, timeout=40 * SECONDS)
        expect(lab.page.locator(".rp-Row-kernel")).to_contain_text("Untitled.ipynb")
        kernel.get_by_role("button", name=re.compile("Logs of")).click()
        expect(dialog).to_contain_text("What cells print goes to the notebook")
        lab.picture("logs")
        dialog.locator("button", has_text="Close").click()
        kernel.get_by_role("button", name=re.compile("Shut down")).click()
        dialog.locator("button", has_text="Shut Down").click()
        expect(lab.page.locator(".rp-Row-kernel")).to_have_count(0, timeout=20 * SECONDS)
        eventually(lambda: DocumentedApi(server).ask("GET", "/kernels")["kernels"] == [])
        lab.picture("end")
        assert lab.said == []
