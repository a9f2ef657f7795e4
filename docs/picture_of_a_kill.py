"""Takes docs/images/killed-server.gif: a notebook that survives ``kill -9`` of its server."""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, expect, sync_playwright

from remote_provisioners.cli.demo.site import DemoSite

PICTURE = Path(__file__).parent / "images" / "killed-server.gif"
SECONDS = 1000
SIZE = {"width": 1100, "height": 480}
SMALL = (880, 384)
LINE = 26
TOKEN = "picture"  # noqa: S105  # of a server on loopback that lives for a minute
CELL = """\
import os, time
host = os.environ["HOSTNAME"]
for step in range(1, 41):
    print(step, "on", host, end="  ", flush=True)
    time.sleep(1)
print("done")"""


@contextmanager
def jupyterlab(site: DemoSite, port: int) -> Iterator[subprocess.Popen[bytes]]:
    as_root = [] if os.geteuid() else ["--allow-root"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", *as_root],
        cwd=site.home,
        env={**site.environ, "JUPYTER_TOKEN": TOKEN},
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait()


class Film:
    """Pictures of a page, each above a line of a terminal."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._font = ImageFont.load_default(size=15)
        self.frames: list[Image.Image] = []
        self.milliseconds: list[int] = []

    def take(self, said: str, milliseconds: int = 900) -> None:
        shot = Image.open(io.BytesIO(self._page.screenshot())).convert("RGB").resize(SMALL)
        frame = Image.new("RGB", (shot.width, shot.height + LINE), "#1e1e1e")
        frame.paste(shot, (0, 0))
        draw = ImageDraw.Draw(frame)
        draw.text((8, shot.height + 4), said, fill="#d4d4d4", font=self._font)
        self.frames.append(frame.quantize(96, method=Image.Quantize.FASTOCTREE))
        self.milliseconds.append(milliseconds)

    def save(self, path: Path) -> None:
        self.milliseconds[-1] = 4000
        first, *rest = self.frames
        first.save(
            path,
            save_all=True,
            append_images=rest,
            duration=self.milliseconds,
            loop=0,
            optimize=True,
        )


def printed(page: Page, step: int) -> None:
    """Wait until the cell has printed this step."""
    output = page.locator(".jp-OutputArea-output").first
    expect(output).to_contain_text(re.compile(rf"\b{step} on "), timeout=60 * SECONDS)


def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with DemoSite() as site, sync_playwright() as playwright:
        site.install_kernelspec({"remote_hosts": [site.names[0]], "python": sys.executable})
        code = nbformat.v4.new_code_cell(CELL)  # type: ignore[no-untyped-call]
        spec = {"name": "python_distributed", "display_name": "Python (distributed)"}
        made = nbformat.v4.new_notebook(cells=[code], metadata={"kernelspec": spec})  # type: ignore[no-untyped-call]
        nbformat.write(made, str(site.home / "training.ipynb"))  # type: ignore[no-untyped-call]
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=sandbox)
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        film = Film(page)
        with jupyterlab(site, port) as server:
            page.goto(f"http://127.0.0.1:{port}/lab/tree/training.ipynb?remote-hosts&token={TOKEN}")
            page.locator(".jp-Notebook .cm-content").first.wait_for(timeout=90 * SECONDS)
            toolbar = page.locator(".rp-Toolbar:visible")
            expect(toolbar).to_contain_text(site.names[0], timeout=90 * SECONDS)
            page.locator(".jp-toast-button", has_text=re.compile("^No$")).first.click()
            page.locator(".jp-CodeCell .cm-content").first.click()
            page.keyboard.press("Shift+Enter")
            printed(page, 3)
            film.take("$ jupyter lab")
            printed(page, 4)
            film.take("$ jupyter lab")
            server.kill()
            server.wait()
            film.take(f"$ kill -9 {server.pid}", 1500)
            page.wait_for_timeout(2.5 * SECONDS)
            film.take(f"$ kill -9 {server.pid}     # the cell goes on where it runs", 2500)
            page.locator(".jp-Dialog input[type=checkbox]").check()  # it would come again
            page.locator(".jp-Dialog button", has_text="Close").click()
        with jupyterlab(site, port):
            printed(page, 12)
            film.take("$ jupyter lab     # what was printed meanwhile is there", 2000)
            page.wait_for_timeout(2 * SECONDS)
            film.take("$ jupyter lab     # what was printed meanwhile is there")
            expect(page.locator(".jp-OutputArea-output").first).to_contain_text(
                "done", timeout=60 * SECONDS
            )
            page.wait_for_timeout(SECONDS)
            film.take("$ jupyter lab     # what was printed meanwhile is there")
        browser.close()
    film.save(PICTURE)


if __name__ == "__main__":
    main()
