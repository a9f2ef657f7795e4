"""Parts of JupyterLab beside the panel: the Running section, the kernel picker; accessibility."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from ..conftest import InstallSpec
from ..rig import Rig
from .applications import Applications, eventually, kernels_on
from .lab import OPTIONS, SECONDS, Lab, install_extension
from .openapi import DocumentedApi
from .test_browser import write_notebook

pytestmark = [pytest.mark.browser, pytest.mark.long]

AXE = Path(__file__).parents[2] / "ui" / "node_modules" / "axe-core" / "axe.min.js"


def violations(lab: Lab, selector: str) -> list[str]:
    """What axe finds wrong in a part of the page."""
    if not lab.page.evaluate("'axe' in window"):
        lab.page.add_script_tag(path=str(AXE))
    found = lab.page.evaluate(f"axe.run({selector!r})")["violations"]
    return [f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:200]}" for v in found]


@pytest.mark.usefixtures("home")
def test_the_running_panel_has_kernels_that_no_server_has(
    rig: Rig, tmp_path: Path, install_spec: InstallSpec, browser: Browser, pictures: Path
) -> None:
    host = rig.hosts[0]
    install_spec([host.target])
    install_extension(tmp_path)
    with Applications(tmp_path) as applications:
        applications.configure("jupyter_server", leave_kernels_running=True)
        server = applications.server("server")
        body = {"name": "remote", "host": host.target}
        left = DocumentedApi(server).ask("POST", "/kernels", body, 201)["id"]
        server.end()
        # Of another directory, so the next server does not restore it.
        applications.root = applications.root / "other"
        applications.root.mkdir()
        lab = Lab(browser, applications.server("lab", *OPTIONS), pictures)
        lab.open()
        lab.page.locator('li[data-id="jp-running-sessions"]').click()
        item = lab.page.locator(".jp-RunningSessions-item", has_text=left[:8])
        expect(item).to_contain_text(host.target, timeout=30 * SECONDS)
        lab.picture("running")
        item.locator(".jp-RunningSessions-itemLabel").click()
        said = lab.page.locator(".Toastify__toast", has_text="jupyter remote attach")
        expect(said).to_contain_text(left)
        item.hover()
        item.locator(".jp-RunningSessions-itemShutdown").click()
        lab.page.locator(".jp-Dialog button", has_text="End").click()
        expect(item).to_have_count(0, timeout=30 * SECONDS)
        eventually(lambda: not kernels_on(host))


@pytest.mark.usefixtures("home")
def test_a_host_is_chosen_after_a_kernel_and_all_is_accessible(
    rig: Rig, tmp_path: Path, install_spec: InstallSpec, browser: Browser, pictures: Path
) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: make ui")
    one, two = (host.target for host in rig.hosts)
    install_spec([one, two])
    install_spec([one], name="first")
    install_extension(tmp_path)
    with Applications(tmp_path) as applications:
        write_notebook(applications.root / "one.ipynb", "6 * 7")
        notebook = applications.root / "one.ipynb"
        notebook.write_text(notebook.read_text().replace('"remote"', '"first"'))
        lab = Lab(browser, applications.server("lab", *OPTIONS), pictures)
        lab.open("/tree/one.ipynb")
        expect(lab.toolbar).to_have_text(one, timeout=60 * SECONDS)
        lab.page.locator(".jp-Toolbar-kernelName:visible").click()
        dialog = lab.page.locator(".jp-Dialog")
        dialog.locator("select").select_option(label="remote")
        dialog.get_by_role("button", name="Select Kernel").click()
        dialog.locator(".rp-Choice").wait_for()
        expect(dialog.locator("label", has_text=two)).to_contain_text("load", timeout=20 * SECONDS)
        assert violations(lab, ".jp-Dialog .rp-Choice") == []
        lab.picture("picker")
        dialog.locator("label", has_text=two).click()
        dialog.locator(".jp-Dialog-footer button").last.click()
        expect(lab.toolbar).to_have_text(two, timeout=60 * SECONDS)
        lab.show_hosts()
        expect(lab.host_row(two)).to_contain_text("connected")
        expect(lab.page.locator(".rp-Row-kernel").first).to_be_visible()
        assert violations(lab, ".rp-Panel") == []
        assert violations(lab, ".rp-Toolbar") == []
        lab.toolbar.click()
        expect(lab.details).to_contain_text("Directory", timeout=20 * SECONDS)
        assert violations(lab, ".rp-Details") == []
        assert lab.said == []
