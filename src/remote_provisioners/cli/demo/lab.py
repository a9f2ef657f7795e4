"""JupyterLab with the demo's hosts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import nbformat

from ..command import CommandError
from .notebook import notebook
from .site import DemoSite

_NOTEBOOK = "demo.ipynb"
_START_SECONDS = 60
_END_SECONDS = 15


def run_lab(site: DemoSite, browser: bool, port: int, options: Sequence[str] = ()) -> int:
    """Run JupyterLab until its user ends it, and open a `browser`. Returns its exit code.

    `port`: 0 for the usual one. `options`: more options of JupyterLab. The token comes from the
    variable JUPYTER_TOKEN, as in JupyterLab itself.
    """
    work = site.home / "work"
    work.mkdir()
    nbformat.write(notebook(), str(work / _NOTEBOOK))  # type: ignore[no-untyped-call]
    # JupyterLab would start the browser with the site's home; we start the user's own browser.
    # Root is allowed: only this user can reach it, on loopback with a token, often in a container.
    as_root = ["--allow-root"] if os.geteuid() == 0 else []
    at_port = [f"--port={port}"] if port else []
    token = {name: os.environ[name] for name in ("JUPYTER_TOKEN",) if name in os.environ}
    its_end, our_end = os.pipe()
    program = [sys.executable, "-m", f"{__package__}.lab_process", str(its_end)]
    lab = subprocess.Popen(
        [*program, "--no-browser", *as_root, *at_port, *options],
        cwd=work,
        env={**site.environ, **token},
        pass_fds=[its_end],
    )
    os.close(its_end)
    try:
        url = _url(site, lab)
        print(f"\nJupyterLab, with kernels on {', '.join(site.names)}: {url}\n", flush=True)
        if browser:
            webbrowser.open(url)
        return _wait(lab)
    finally:
        _end(lab)
        os.close(our_end)


def _url(site: DemoSite, lab: subprocess.Popen[bytes]) -> str:
    """The address, with its token. Raises CommandError if JupyterLab does not start."""
    runtime = Path(site.environ["JUPYTER_RUNTIME_DIR"])
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and lab.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            # The file is half written, or JupyterLab has written it and does not listen yet.
            with contextlib.suppress(ValueError, OSError):
                server = json.loads(path.read_text("utf-8"))
                at = urlsplit(server["url"])
                socket.create_connection((at.hostname, at.port), timeout=1).close()
                return f"{server['url']}lab/tree/{_NOTEBOOK}?remote-hosts&token={server['token']}"
        time.sleep(0.1)
    raise CommandError("JupyterLab did not start; see the output above")


def _wait(lab: subprocess.Popen[bytes]) -> int:
    """Leave Ctrl-C to JupyterLab, which asks for confirmation."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return max(lab.wait(), 0)
    finally:
        signal.signal(signal.SIGINT, before)


def _end(lab: subprocess.Popen[bytes]) -> None:
    lab.terminate()
    try:
        lab.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        lab.kill()
        lab.wait()
