"""The paths of the API, and the handler of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyter_server.utils import url_path_join

from .base import RemoteHandler, answers
from .environments import EnvironmentsHandler, RefreshHandler
from .hosts import HostHandler, HostsHandler, ReconnectHandler
from .kernels import (
    FoundKernelsHandler,
    KernelHandler,
    KernelsHandler,
    LogsHandler,
    MoveHandler,
    StartHandler,
)
from .ports import PortsHandler

ROOT = "remote-provisioners"
DOCUMENT = Path(__file__).with_name("openapi.yaml")

_KERNEL = r"([^/]+)"
#: A host's name may contain every character except a slash.
_HOST = r"([^/]+)"


class DocumentHandler(RemoteHandler):
    @answers
    async def get(self) -> None:
        self.set_header("Content-Type", "application/yaml")
        self.finish(DOCUMENT.read_bytes())


def routes(base_url: str) -> list[tuple[str, Any]]:
    paths = {
        "openapi.yaml": DocumentHandler,
        "hosts": HostsHandler,
        f"hosts/{_HOST}": HostHandler,
        f"hosts/{_HOST}/reconnect": ReconnectHandler,
        f"hosts/{_HOST}/environments": EnvironmentsHandler,
        f"hosts/{_HOST}/environments/refresh": RefreshHandler,
        "kernels": KernelsHandler,
        f"kernels/{_KERNEL}": KernelHandler,
        f"kernels/{_KERNEL}/logs": LogsHandler,
        f"kernels/{_KERNEL}/move": MoveHandler,
        f"starts/{_KERNEL}": StartHandler,
        "ports": PortsHandler,
        "found-kernels": FoundKernelsHandler,
    }
    prefix = url_path_join(base_url, ROOT, "api/v1/")
    return [(prefix + path, handler) for path, handler in paths.items()]
