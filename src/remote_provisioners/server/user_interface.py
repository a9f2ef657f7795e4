"""Sets up what users of one server can see: the API, the page, the events and the metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .access import RemoteAccess
from .announcer import Announcer
from .api.base import ACTIONS, ENVIRONMENTS, VIEW
from .api.ports import PORTS
from .api.routes import routes
from .drive.drives import Drives
from .drive.handlers import DRIVES
from .drive.handlers import routes as drive_routes
from .hooks.session_manager import place_kernels, watch_sessions
from .limits import LimitWatch
from .metrics import Metrics
from .page.handlers import routes as page_routes
from .ports.routes import routes as port_routes
from .session_table import SessionTable
from .view.actions import Actions
from .view.configured import Configuration
from .view.environments import Environments
from .view.models import Model
from .view.ports import KernelPorts
from .view.view import View

EVENTS = "https://schema.jupyter.org/remote_provisioners"
_SCHEMAS = Path(__file__).with_name("events")


def show(serverapp: Any, table: SessionTable) -> None:
    """Let the server show its hosts and kernels. The extension calls this once."""
    loop = serverapp.io_loop.asyncio_loop
    logger = serverapp.event_logger
    metrics = Metrics()

    def say(name: str, event: Model) -> None:

        logger.emit(schema_id=f"{EVENTS}/{name}/v1", data=event)

    for schema in sorted(_SCHEMAS.glob("*.yaml")):
        logger.register_event_schema(schema)
    announcer = Announcer(loop, say)
    configuration = Configuration(serverapp.kernel_spec_manager, serverapp.config)
    manager, sessions = serverapp.kernel_manager, serverapp.session_manager
    limits = LimitWatch(manager, loop)
    view = View(manager, table, configuration, announcer.since, limits.time_left)
    actions = Actions(manager, serverapp.contents_manager, serverapp.root_dir, view)
    environments = Environments(
        view, configuration, serverapp.kernel_spec_manager, serverapp.config
    )
    access = RemoteAccess(parent=serverapp)
    base_url = serverapp.base_url
    ports = KernelPorts(manager, base_url, access.proxy_ports)
    trash = bool(getattr(serverapp.contents_manager, "delete_to_trash", False))
    drives = Drives(configuration, serverapp, access.file_roots, trash)
    serverapp.web_app.settings.update(
        {VIEW: view, ACTIONS: actions, PORTS: ports, ENVIRONMENTS: environments, DRIVES: drives}
    )
    # JupyterLab's page says it, so that nobody is offered what the operator does not allow.
    page_config = serverapp.web_app.settings.setdefault("page_config_data", {})
    page_config["remoteFiles"] = bool(drives.roots)
    asks = getattr(serverapp, "asks_hosts", False)
    handlers = [
        *routes(base_url),
        *page_routes(base_url, asks),
        *port_routes(base_url, access.proxy_ports),
        *drive_routes(base_url),
    ]
    serverapp.web_app.add_handlers(".*$", handlers)
    announcer.follow(view)
    limits.follow(view.remote_kernels, announcer.limit_near)
    place_kernels(sessions, drives.environment_of)
    watch_sessions(sessions, announcer.session_changed)
    metrics.follow()
