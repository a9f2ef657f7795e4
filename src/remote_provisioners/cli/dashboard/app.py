"""``jupyter remote dashboard``."""

from __future__ import annotations

import importlib.util

from traitlets import Bool, Int

from ..command import Command, CommandError, Text


class DashboardApp(Command):
    name = "jupyter-remote-dashboard"
    description = """Show the configured hosts and all your kernels on them in a browser.

    This is the page that a Jupyter server serves at /remote-provisioners/, without a Jupyter
    server. It requires a token, which is part of the printed address. The page lists kernels,
    shows their logs and can end them. The kernels keep running when this command ends.
    """
    examples = """
    jupyter remote dashboard
    jupyter remote dashboard --no-browser --port=8899
    """
    aliases = Command.aliases | {"port": "DashboardApp.port", "ip": "DashboardApp.ip"}
    flags = Command.flags | {
        "no-browser": ({"DashboardApp": {"browser": False}}, "Only print the address of the page."),
    }

    port = Int(8899, help="The port. If it is taken, the command uses the next free one.").tag(
        config=True
    )
    ip = Text("127.0.0.1", help="The address to listen on.").tag(config=True)
    browser = Bool(True, help="Open the page in a browser.").tag(config=True)

    def run(self) -> int:
        self.words(0, "no arguments")
        if importlib.util.find_spec("jupyter_server") is None:
            raise CommandError("jupyter_server is not installed: pip install jupyter_server")
        from .server import run_dashboard  # noqa: PLC0415

        self.clear_instance()  # there may be one application only, and the server is one too
        run_dashboard(self.ip, self.port, self.browser)
        return 0
