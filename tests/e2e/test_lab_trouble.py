"""What JupyterLab says when a kernel does not start, starts slowly, or cannot be reached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from ..conftest import InstallSpec, be_client
from ..rig import Rig
from .applications import TOKEN, Applications
from .lab import OPTIONS, SECONDS, Lab, install_extension, write_notebook
from .openapi import DocumentedApi

pytestmark = pytest.mark.browser

SLOW = ["python", "-c", "import time; time.sleep(90)", "{connection_file}"]
ENDS = ["python", "-c", "print('no licence for this module'); exit(3)", "{connection_file}"]


@pytest.mark.long
@pytest.mark.usefixtures("home")
def test_a_start_that_fails_says_why_and_a_slow_one_is_cancelled(
    rig: Rig, tmp_path: Path, install_spec: InstallSpec, browser: Browser, pictures: Path
) -> None:
    host = rig.hosts[0].target
    install_spec([host], name="ends", argv=ENDS)
    install_spec([host], name="slow", argv=SLOW)
    install_spec([{"host": host, "capacity": 0}], name="full")
    install_spec([each.target for each in rig.hosts], name="fails", argv=ENDS)
    install_spec([f"node{number}.invalid" for number in range(9)], name="many")
    install_extension(tmp_path)
    with Applications(tmp_path) as applications:
        for name in ("ends", "slow", "full"):
            write_notebook(applications.root / f"{name}.ipynb", name)
        server = applications.server("lab", *OPTIONS)
        lab = Lab(browser, server, pictures)
        lab.open()
        lab.page.locator(".jp-LauncherCard", has_text="many on …").click()
        dialog = lab.page.locator(".jp-Dialog")
        expect(dialog.locator(".rp-Choice label")).to_have_count(10)  # with any host
        dialog.get_by_label("Search hosts and labels").fill("node7")
        expect(dialog.locator(".rp-Choice label:visible")).to_have_count(1)
        lab.page.keyboard.press("Escape")
        lab.page.locator(".jp-LauncherCard", has_text="fails on …").click()
        dialog.locator("label", has_text=host).click()
        dialog.locator("button", has_text="Run There").click()
        expect(dialog).to_contain_text("no licence for this module", timeout=30 * SECONDS)
        dialog.locator("button", has_text="Close").click()
        # The notebook that it was for is not left behind.
        assert not list(applications.root.glob("Untitled*.ipynb"))

        lab = Lab(browser, server, pictures)
        lab.open("/tree/ends.ipynb")
        expect(lab.toolbar).to_contain_text("did not start", timeout=60 * SECONDS)
        lab.show_details()
        details = lab.details
        expect(details).to_contain_text("ended at once with exit code 3")
        expect(details.locator(".rp-Printed")).to_have_text("no licence for this module")
        lab.picture("failed")
        lab.page.keyboard.press("Escape")

        lab = Lab(browser, server, pictures)
        lab.open("/tree/full.ipynb")
        expect(lab.toolbar).to_contain_text("did not start", timeout=60 * SECONDS)
        lab.show_details()
        expect(lab.details).to_contain_text("full")
        lab.page.keyboard.press("Escape")

        lab = Lab(browser, server, pictures)
        lab.open("/tree/slow.ipynb")
        expect(lab.toolbar).to_contain_text(f"starting on {host}", timeout=60 * SECONDS)
        notice = lab.page.locator(".Toastify__toast", has_text=f"slow.ipynb: starting on {host}")
        expect(notice).to_be_visible(timeout=20 * SECONDS)
        lab.picture("slow")
        lab.show_details()
        lab.details.get_by_role("button", name="Cancel the start").click()
        expect(notice).to_have_count(0, timeout=10 * SECONDS)
        api = DocumentedApi(server)
        assert api.ask("GET", "/kernels")["starts"] == []


@pytest.mark.long
def test_a_host_that_cannot_be_reached_is_said_and_its_return_too(
    own_rig: Rig,
    tmp_path: Path,
    install_spec: InstallSpec,
    browser: Browser,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    be_client(own_rig, monkeypatch)
    host, off = own_rig.hosts[:2]
    off.power_off()
    install_spec([host.target], name="remote")
    install_spec([host.target, off.target], name="both")
    install_extension(tmp_path)
    with Applications(tmp_path) as applications:
        write_notebook(applications.root / "one.ipynb", "remote")
        lab = Lab(browser, applications.server("lab", *OPTIONS), pictures)
        lab.open("/tree/one.ipynb")
        expect(lab.toolbar).to_have_text(host.target, timeout=60 * SECONDS)
        lab.page.locator(".jp-CodeCell .cm-content").first.click()
        lab.page.keyboard.press("Shift+Enter")
        expect(lab.page.locator(".jp-OutputArea-output").first).to_contain_text("42")
        lab.show_hosts()
        row = lab.host_row(off.target)
        expect(row).to_contain_text("cannot be used", timeout=30 * SECONDS)
        row.get_by_role("button", name=f"Why {off.target} fails").click()
        expect(lab.page.locator(".jp-Dialog")).to_contain_text(off.target)
        lab.dismiss_dialogs()

        host.link_down()
        expect(lab.toolbar).to_contain_text("unreachable for", timeout=40 * SECONDS)
        said = lab.page.locator(".Toastify__toast", has_text="cannot be reached")
        expect(said).to_contain_text("keeps running")
        expect(lab.toolbar).to_contain_text(re.compile(r"unreachable for ([2-9]|1\d) s"))
        lab.picture("unreachable")
        host.link_up()
        expect(lab.toolbar).to_have_text(host.target, timeout=60 * SECONDS)
        back = lab.page.locator(".Toastify__toast", has_text="is back")
        expect(back).to_be_visible(timeout=10 * SECONDS)
        lab.picture("back")
        off.power_on()  # the rig looks for what was left there
        assert lab.said == []


@pytest.mark.long
@pytest.mark.usefixtures("home")
def test_notebook_7_shows_the_host_too(
    rig: Rig, tmp_path: Path, install_spec: InstallSpec, browser: Browser, pictures: Path
) -> None:
    host = rig.hosts[0].target
    install_spec([host])
    install_extension(tmp_path)
    with Applications(tmp_path) as applications:
        write_notebook(applications.root / "one.ipynb", "remote")
        server = applications.server("notebook")
        lab = Lab(browser, server, pictures)
        lab.page.goto(f"http://{server.address}/notebooks/one.ipynb?token={TOKEN}")
        expect(lab.toolbar).to_have_text(host, timeout=60 * SECONDS)
        lab.toolbar.click()
        expect(lab.details).to_contain_text("Directory")
        lab.picture("notebook7")
