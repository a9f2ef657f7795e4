"""Takes the pictures of docs/images: JupyterLab on the demo's hosts, by ``make pictures``."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

IMAGES = Path(__file__).parent / "images"
SECONDS = 1000
SIZE = {"width": 1100, "height": 620}


@contextmanager
def demo() -> Iterator[str]:
    """The demo's JupyterLab; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "remote_provisioners.cli.app", "demo", "--lab", "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://\S+", line):
                yield found.group()
                return
        raise RuntimeError("the demo did not start")
    finally:
        process.terminate()
        process.wait()


def close_notices(page: Page) -> None:
    """What JupyterLab asks a new user."""
    page.locator(".jp-toast-button", has_text=re.compile("^No$")).first.click()


def start_on(page: Page, host: str) -> None:
    page.locator(".jp-LauncherCard:visible", has_text="on …").first.click()
    page.locator(".jp-Dialog label", has_text=host).click()
    page.wait_for_timeout(400)
    page.locator(".jp-Dialog:visible button", has_text="Run There").click()
    expect(page.locator(".rp-Toolbar:visible")).to_contain_text(host, timeout=40 * SECONDS)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    frames: list[Image.Image] = []
    with demo() as url, sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        page.set_default_timeout(60 * SECONDS)

        def frame() -> None:
            frames.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))

        page.goto(url)
        expect(page.locator(".rp-Toolbar:visible")).to_be_visible(timeout=60 * SECONDS)
        close_notices(page)
        frame()
        hosts = page.locator(".rp-Row-host .rp-Name").all_text_contents()
        for host in hosts:
            page.locator(".lm-TabBar-addButton:visible").first.click()
            page.locator(".jp-Launcher:visible").wait_for()
            page.wait_for_timeout(500)
            frame()
            start_on(page, host)
            page.locator(".jp-CodeCell:visible .cm-content").first.click()
            page.keyboard.type("import os; os.environ['HOSTNAME']")
            page.keyboard.press("Shift+Enter")
            expect(page.locator(".jp-OutputArea-output:visible").first).to_contain_text(
                host, timeout=30 * SECONDS
            )
            frame()
        page.locator(".rp-Toolbar:visible").click()
        expect(page.locator(".rp-Details")).to_contain_text("MiB", timeout=30 * SECONDS)
        frame()
        page.screenshot(path=IMAGES / "jupyterlab-light.png")
        page.keyboard.press("Escape")
        page.locator("#jp-MainMenu >> text=Settings").click()
        page.locator(".lm-Menu-itemLabel", has_text="Theme").first.hover()
        page.locator(".lm-Menu-itemLabel", has_text=re.compile("^JupyterLab Dark$")).click()
        page.wait_for_timeout(3 * SECONDS)
        page.locator(".rp-Toolbar:visible").click()
        expect(page.locator(".rp-Details")).to_contain_text("MiB", timeout=30 * SECONDS)
        page.screenshot(path=IMAGES / "jupyterlab-dark.png")
        browser.close()
    small = [f.resize((880, 496)).quantize(64) for f in frames]
    small[0].save(
        IMAGES / "three-hosts.gif",
        save_all=True,
        append_images=small[1:],
        duration=[1200] * (len(small) - 1) + [4000],
        loop=0,
        optimize=True,
    )


if __name__ == "__main__":
    main()
