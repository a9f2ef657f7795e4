"""``jupyter remote dashboard``."""

from __future__ import annotations

import importlib.util

from traitlets import Bool, Int

from ..command import Command, CommandError, Text


class DashboardApp(Command):
    name = "jupyter-remote-dashboard"
    description = """Show the configured hosts and all your kernels on them in a browser.

    It is a page of its own, for which no Jupyter server has to run: the one that a Jupyter server
    has at /remote-provisioners/. It needs a token, which is part of the address that this command
    prints. Kernels are listed, read and ended there; this command ends none.
    """
    examples = """
    jupyter remote dashboard
    jupyter remote dashboard --no-browser --port=8899
    """
    aliases = Command.aliases | {"port": "DashboardApp.port", "ip": "DashboardApp.ip"}
    flags = Command.flags | {
        "no-browser": ({"DashboardApp": {"browser": False}}, "Only print where the page is."),
    }

    port = Int(8899, help="The port; another one if it is taken.").tag(config=True)
    ip = Text("127.0.0.1", help="The address to listen on.").tag(config=True)
    browser = Bool(True, help="Open the page in a browser.").tag(config=True)

    def run(self) -> int:
        self.words(0, "no arguments")
        if importlib.util.find_spec("jupyter_server") is None:
            raise CommandError(
                "needs jupyter_server, not installed here: pip install jupyter_server"
            )
        from .server import run_dashboard  # noqa: PLC0415

        self.clear_instance()  # an application is the only one: the server is one too
        run_dashboard(self.ip, self.port, self.browser)
        return 0
