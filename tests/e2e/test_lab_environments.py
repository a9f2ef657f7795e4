"""Environments of a host become kernels in JupyterLab's panel, in a real browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from ..conftest import InstallSpec
from ..rig import Rig
from .applications import Applications
from .lab import OPTIONS, SECONDS, Lab, install_extension
from .made_environments import KERNEL, MINOR, make_venv

pytestmark = [pytest.mark.browser, pytest.mark.long]


def test_a_person_adds_an_environment_and_runs_a_notebook_in_it(
    rig: Rig,
    home: Path,
    tmp_path: Path,
    install_spec: InstallSpec,
    browser: Browser,
    pictures: Path,
) -> None:
    host = rig.hosts[0]
    install_spec(host.target)
    install_extension(tmp_path)
    venvs = host.home / ".venvs"
    make_venv(venvs / "analysis")
    make_venv(venvs / "bare", kernel=False)
    with Applications(tmp_path) as applications:
        lab = Lab(browser, applications.server("lab", *OPTIONS), pictures)
        lab.open()
        lab.show_hosts()
        add = lab.host_row(host.target).get_by_role("button", name="Add environments of")
        add.click()
        dialog = lab.page.locator(".jp-Dialog")
        choice = dialog.locator("label", has_text=f"Python {MINOR} (analysis)")
        expect(choice).to_contain_text(f"ipykernel {KERNEL}", timeout=30 * SECONDS)
        dialog.locator("summary").click()
        bare = dialog.locator(".rp-Environment", has_text="(bare)")
        expect(bare).to_contain_text(f"{venvs}/bare/bin/python -m pip install ipykernel")
        lab.picture("environments")
        choice.click()
        dialog.locator("button", has_text="Add").click()
        title = f"Python {MINOR} (analysis) · {host.target}"
        card = lab.page.locator(".jp-LauncherCard", has_text=title).first
        expect(card).to_be_visible(timeout=30 * SECONDS)
        lab.picture("environment-in-launcher")
        add.click()
        expect(choice).to_contain_text("added", timeout=30 * SECONDS)
        expect(choice.locator("input")).to_be_disabled()
        again = dialog.get_by_role("button", name="Update the kernels that you have added")
        again.click()
        expect(dialog.get_by_role("status")).to_have_text("Nothing has changed.")
        make_venv(venvs / "second")
        again.click()
        second = f"Python {MINOR} (second) · {host.target}"
        expect(dialog.get_by_role("status")).to_have_text(f"New: {second}")
        expect(lab.page.locator(".jp-LauncherCard", has_text=second)).to_have_count(2)
        lab.picture("environments-updated")
        dialog.locator("button", has_text="Cancel").click()
        card.click()
        expect(lab.toolbar).to_have_text(host.target, timeout=60 * SECONDS)
        # Chromium gives up what it loads when a network interface comes or goes.
        assert set(lab.said) <= {"Failed to fetch"}
    shutil.rmtree(venvs)
