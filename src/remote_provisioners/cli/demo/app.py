"""``jupyter remote demo``."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from traitlets import Bool, Int

from ..command import MISUSED, Command, CommandError
from .site import DemoSite

_NEEDED = ("ipykernel", "nbclient", "nbformat")
#: An option of JupyterLab, or of its server.
_OF_LAB = re.compile(r"--(?!(?:DemoApp|Command|JupyterApp|Application)\.)[A-Z]\w*\.\w+=")
_ROW = "{:<10}{:<8}{:>8}{:>10}{:>11}"


class DemoApp(Command):
    name = "jupyter-remote-demo"
    description = """Start kernels on three temporary SSH hosts on this machine.

    The hosts are SSH servers on loopback. Each has its own keys, home directory and name. The
    demo runs a notebook once on each host, with the `python_distributed` kernelspec. Then it ends
    and removes everything. It neither reads nor changes your ~/.ssh or your kernelspecs.

    With --lab, it opens JupyterLab with the same hosts instead. JupyterLab gets options such as
    --ServerApp.base_url=/demo/, and its token from the variable JUPYTER_TOKEN.
    """
    examples = """
    jupyter remote demo
    jupyter remote demo --lab
    """
    aliases = Command.aliases | {"port": "DemoApp.port"}
    flags = Command.flags | {
        "lab": (
            {"DemoApp": {"lab": True}},
            "Open JupyterLab with the hosts. They end with it.",
        ),
        "no-browser": (
            {"DemoApp": {"browser": False}},
            "With --lab: only print the address of JupyterLab.",
        ),
    }

    lab = Bool(False, help="Open JupyterLab with the hosts.").tag(config=True)
    port = Int(0, help="With --lab: the port of JupyterLab.").tag(config=True)
    browser = Bool(True, help="Show JupyterLab in a browser.").tag(config=True)

    def initialize(self, argv: Any = None) -> None:
        words = sys.argv[1:] if argv is None else list(argv)
        self._for_lab = [word for word in words if _OF_LAB.match(word)]
        super().initialize([word for word in words if word not in self._for_lab])

    def run(self) -> int:
        self.words(0, "no arguments")
        if self._for_lab and not self.lab:
            raise CommandError(f"{self._for_lab[0]} is for JupyterLab: add --lab", MISUSED)
        _require(_NEEDED, "remote-provisioners[demo]")
        if self.lab:
            _require(("jupyterlab",), "jupyterlab")
        with _ended_by_signals(), DemoSite() as site:
            site.install_kernelspec(
                {
                    "remote_hosts": list(site.names),
                    "load_balancing_algorithm": "round-robin",
                    "python": sys.executable,
                }
            )
            if self.lab:
                from .lab import run_lab  # noqa: PLC0415

                return run_lab(site, self.browser, self.port, self._for_lab)
            _run_notebooks(site)
        print("All kernels and hosts have ended. Nothing is left of them.")
        if importlib.util.find_spec("jupyterlab") is None:
            print("See it in JupyterLab: make lab, or pip install jupyterlab and then:")
        else:
            print("See it in JupyterLab:")
        print(f"    {_command()} demo --lab")
        return 0


def _command() -> str:
    """This command as its user can call it."""
    beside = Path(sys.executable).with_name("jupyter-remote")
    known = shutil.which("jupyter-remote")
    if known and Path(known).resolve() == beside.resolve():
        return "jupyter remote"
    return shlex.quote(os.path.relpath(beside)) if beside.exists() else "jupyter remote"


def _run_notebooks(site: DemoSite) -> None:
    """Run the notebook once for each host and print what it found. Raises CommandError."""
    from .notebook import RESULT  # noqa: PLC0415

    print(f"Three SSH hosts on this machine: {', '.join(site.names)}")
    print(_ROW.format("KERNEL", "HOST", "PID", "START", "RESULT"), flush=True)
    hosts = []
    for seen in _notebooks(site):
        if "error" in seen:
            raise CommandError(f"the notebook did not run: {seen['error']}")
        start = f"{seen['milliseconds']:.0f} ms"
        print(
            _ROW.format(seen["kernel"][:8], seen["host"], seen["pid"], start, seen["result"]),
            flush=True,
        )
        if seen["result"] != RESULT:
            raise CommandError(f"the result is wrong: it should be {RESULT}")
        hosts.append(seen["host"])
    if sorted(hosts) != sorted(site.names):
        ran = ", ".join(hosts) or "none"
        raise CommandError(
            f"expected one kernel on each of {', '.join(site.names)}, but they ran on: {ran}"
        )


def _notebooks(site: DemoSite) -> Iterator[dict[str, Any]]:
    """The result of each run of the notebook."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.notebook", str(len(site.names))],
        env=site.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # we handle Ctrl-C
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
        process.wait()
    finally:
        process.kill()  # the hosts and the directory, which end now, hold whatever it leaves
        process.communicate()


def _require(modules: tuple[str, ...], requirement: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f'{", ".join(missing)} not installed: pip install "{requirement}"')


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End on SIGTERM and SIGHUP as on Ctrl-C, together with everything that was started."""

    def end(signum: int, frame: object) -> NoReturn:
        raise SystemExit(128 + signum)

    before = {s: signal.signal(s, end) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
