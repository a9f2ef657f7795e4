"""JupyterLab in a browser, used by mouse and keyboard."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, Request
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from .applications import TOKEN, Server

EXTENSIONS = Path(__file__).parents[2] / "ui" / "labextensions"
OPTIONS = (
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.news_url=None",
)
SECONDS = 1000


def install_extension(tmp_path: Path) -> None:
    """What was built last, before whatever is installed, where `install_spec` puts kernelspecs."""
    shutil.copytree(EXTENSIONS, tmp_path / "jupyter" / "labextensions")


def write_notebook(path: Path, kernelspec: str, code: str = "6 * 7") -> None:
    """A notebook of one cell."""
    content = {
        "cells": [
            {
                "cell_type": "code",
                "id": "one",
                "execution_count": None,
                "metadata": {},
                "outputs": [],
                "source": code,
            }
        ],
        "metadata": {"kernelspec": {"name": kernelspec, "display_name": kernelspec}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(content))


class Lab:
    """A page of JupyterLab, used by mouse and keyboard."""

    def __init__(self, browser: Browser, server: Server, pictures: Path) -> None:
        self.page: Page = browser.new_page(viewport={"width": 1280, "height": 900})
        self.page.set_default_timeout(30 * SECONDS)
        self.server = server
        self._pictures = pictures
        self._given_up = False
        self.page.on("requestfailed", self._failed)
        # What a busy machine's browser could not load in time is said until somebody closes it.
        theme = self.page.locator(".jp-Dialog", has_text="Error Loading Theme")
        self.page.add_locator_handler(theme, lambda dialog: dialog.locator("button").last.click())
        self.said: list[str] = []
        self.page.on("pageerror", lambda error: self.said.append(str(error)))

    def open(self, path: str = "") -> None:
        """Open it; again where Chromium gave up what it was loading.

        It does so when a network interface comes or goes: those of other tests' hosts do.
        """
        before = len(self.said)
        for _ in range(4):
            self._given_up = False
            del self.said[before:]  # what the page said of the parts that it did not have
            self.page.goto(f"http://{self.server.address}/lab{path}?token={TOKEN}")
            self.page.locator("#jp-main-dock-panel").wait_for(timeout=90 * SECONDS)
            self.page.wait_for_timeout(1.5 * SECONDS)
            if not self._given_up:
                return

    def _failed(self, request: Request) -> None:
        self._given_up = self._given_up or "NETWORK_CHANGED" in (request.failure or "")

    def picture(self, name: str) -> None:
        self._pictures.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(self._pictures / f"{name}.png"))

    def show_hosts(self) -> None:
        self.page.locator('li[data-id="rp-remote-hosts"]').click()
        self.page.locator(".rp-Panel").wait_for()

    def host_row(self, name: str) -> Locator:
        return self.page.locator(f'.rp-Row[data-key="host {name}"]')

    @property
    def toolbar(self) -> Locator:
        return self.page.locator(".rp-Toolbar:visible")

    @property
    def details(self) -> Locator:
        return self.page.locator(".rp-Details")

    def dismiss_dialogs(self) -> None:
        """Close what JupyterLab says of its own."""
        self.page.wait_for_timeout(500)
        for _ in range(5):
            button = self.page.locator(".jp-Dialog .jp-Dialog-footer button").last
            if not button.is_visible():
                return
            button.click()
            self.page.wait_for_timeout(200)

    def show_details(self) -> None:
        """Open them from the toolbar. JupyterLab may show a dialog of its own meanwhile."""
        for attempts_left in reversed(range(8)):
            self.dismiss_dialogs()
            try:
                self.toolbar.click(timeout=3 * SECONDS)
                return
            except PlaywrightTimeoutError:
                if not attempts_left:
                    raise
