"""A server for the page and its data only: no files of this machine, no terminals."""

from __future__ import annotations

import logging
from typing import Any

from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join

from ...server.api.routes import ROOT
from ...server.session_table import SessionTable
from ...server.user_interface import show


class DashboardServer(ServerApp):
    """Authentication, events and the hosts."""

    # The services that the page needs.
    default_services = ("auth", "events", "security")  # type: ignore[assignment]
    #: Ask the hosts when the page is opened, because no kernel connects this process to them.
    asks_hosts = True

    def find_server_extensions(self) -> None:
        """Load no other extensions."""

    def init_server_extensions(self) -> None:
        self.jpserver_extensions = {}
        super().init_server_extensions()

    def load_server_extensions(self) -> None:
        show(self, SessionTable(self.session_manager))

    def _log_level_default(self) -> int:
        return logging.WARNING


def run_dashboard(ip: str, port: int, browser: bool) -> None:
    """Serve until Ctrl-C; prints the address of the page."""
    options: dict[str, Any] = {"ip": ip, "port": port, "open_browser": browser}
    # It runs no code of its users, so running as root needs no warning.
    server = DashboardServer.instance(
        allow_root=True, default_url=f"/{ROOT}/", log_level=logging.WARNING, **options
    )
    server.initialize([])
    page = url_path_join(server.connection_url, ROOT, "/")
    line = f"Remote hosts: {page}?token={server.identity_provider.token}"
    # jupyter_server listens in the loop's first turn: print the address when it can be opened.
    server.io_loop.add_callback(lambda: print(line, flush=True))
    server.start()
