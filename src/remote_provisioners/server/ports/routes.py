"""The paths of proxied ports. What serves them is imported for the first request."""

from __future__ import annotations

import importlib.util
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.web import RequestHandler

from ..api.base import RESOURCE

_OFF = "the proxy is off on this server (option RemoteAccess.proxy_ports)"
_MISSING = (
    "the server lacks jupyter-server-proxy: pip install 'remote-provisioners[ports]',\n"
    "or use `jupyter remote forward`"
)


def can_proxy() -> bool:
    """Whether jupyter-server-proxy is installed."""
    return importlib.util.find_spec("jupyter_server_proxy") is not None


def prepare() -> None:
    """Import what serves the paths. Call it in a thread before the first request."""
    from . import handlers  # noqa: F401, PLC0415


class _PortHandler(RequestHandler):
    """Stands for PortHandler, whose import takes a third of a second."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        from .handlers import PortHandler  # noqa: PLC0415

        return PortHandler(*args, **kwargs)


class _NotProxied(JupyterHandler):
    """Says why there is no proxy."""

    auth_resource = RESOURCE

    def initialize(self, status: int, text: str) -> None:
        self._answer = (status, text)

    @web.authenticated
    @authorized
    def get(self, *_: str) -> None:
        raise web.HTTPError(*self._answer)


class _AddSlash(JupyterHandler):
    """A page's relative links need the slash."""

    auth_resource = RESOURCE

    @web.authenticated
    @authorized
    def get(self, *_: str) -> None:
        path, mark, query = (self.request.uri or "").partition("?")
        self.redirect(f"{path}/{mark}{query}")


def routes(base_url: str, on: bool) -> list[tuple[Any, ...]]:
    """`on`: whether the operator allows the proxy."""
    kernel = url_path_join(base_url, "remote-provisioners/kernels")
    if not on or not can_proxy():
        answer = {"status": 403, "text": _OFF} if not on else {"status": 501, "text": _MISSING}
        return [(rf"{kernel}/[^/]+/(?:port|proxy)/.*", _NotProxied, answer)]
    page = rf"{kernel}/([^/]+)/(port|proxy|proxy/absolute)/(\d+)"
    return [(page, _AddSlash), (rf"{page}(/.*)", _PortHandler)]
