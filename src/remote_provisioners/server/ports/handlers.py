"""``/remote-provisioners/kernels/ID/proxy/PORT/``, by jupyter-server-proxy.

Imported when a page is first asked for: jupyter-server-proxy takes a third of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.utils import url_path_join
from jupyter_server_proxy.handlers import ProxyHandler
from tornado import web

from ...errors import RemoteProvisionerError
from ...io_thread import io_thread
from ...kernels.remote_kernel import RemoteKernel
from ...ports.port_sockets import port_sockets
from ..api.base import RESOURCE, VIEW
from .credentials import (
    is_login,
    other_cookies,
    other_parameters,
    sets_other_cookie,
    without_token,
)

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_HIGHEST_PORT = 65535


class PortHandler(ProxyHandler):  # type: ignore[misc]
    """One request or websocket to a port of the host of a kernel of this server."""

    auth_resource = RESOURCE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        def clean(response: Any) -> None:  # jupyter-server-proxy goes by names of arguments
            self._clean(response)

        super().__init__(*args, rewrite_response=clean, **kwargs)

    async def prepare(self) -> None:
        """Only for who may run code in kernels; not for pages of other sites."""
        await super().prepare()
        if self._finished:  # sent to the login page
            return
        allowed = self.authorizer.is_authorized(self, self.current_user, "execute", RESOURCE)
        if not await ensure_async(allowed):
            raise web.HTTPError(403)
        if self.request.method not in _SAFE_METHODS and not self.check_origin():
            raise web.HTTPError(403, "the request comes from another site")

    # -- jupyter-server-proxy's methods -----------------------------------------------------

    async def http_get(self, kernel_id: str, port: str, path: str) -> None:
        await self._pass_on(kernel_id, port, path)

    async def post(self, kernel_id: str, port: str, path: str) -> None:
        await self._pass_on(kernel_id, port, path)

    put = delete = head = patch = options = post

    async def open(self, kernel_id: str, port: str, path: str) -> None:
        await self._find(kernel_id, port)
        await self.proxy_open("localhost", self._port, path)

    def proxy_request_headers(self) -> dict[str, str]:
        """The headers that reach the host, without what is Jupyter's.

        Host and Origin are those of a browser on the host itself: many applications refuse others.
        """
        headers = super().proxy_request_headers()
        cookies = other_cookies(headers.pop("Cookie", ""), self._own_cookies)
        if cookies:
            headers["Cookie"] = cookies
        if is_login(headers.get("Authorization", "")):
            del headers["Authorization"]
        if headers.get("X-Xsrftoken") and headers["X-Xsrftoken"] == self.get_cookie("_xsrf"):
            del headers["X-Xsrftoken"]
        if "Referer" in headers:
            headers["Referer"] = without_token(headers["Referer"])
        for name in [name for name in headers if name.lower().startswith("x-jupyter")]:
            del headers[name]
        headers["Host"] = f"localhost:{self._port}"
        if "Origin" in headers:
            headers["Origin"] = f"http://localhost:{self._port}"
        return dict(headers)

    def get_client_uri(self, protocol: str, host: str, port: int, proxied_path: str) -> str:
        uri: str = super().get_client_uri(protocol, host, port, proxied_path)
        address, mark, query = uri.partition("?")
        query = other_parameters(query)
        return address + (mark if query else "") + query

    # -- ours -------------------------------------------------------------------------------

    async def _pass_on(self, kernel_id: str, port: str, path: str) -> None:
        await self._find(kernel_id, port)
        await self.proxy("localhost", self._port, path)

    async def _find(self, kernel_id: str, port: str) -> None:
        """Open the socket that leads to the port. Raises HTTPError."""
        self._port = int(port)
        if not 0 < self._port <= _HIGHEST_PORT:
            raise web.HTTPError(404)
        try:
            kernel = await self.settings[VIEW].of_this_server(kernel_id)
        except KeyError:
            raise web.HTTPError(404, f"this server has no kernel {kernel_id}") from None
        kind = "proxy/absolute" if self.absolute_url else "proxy"
        self.proxy_base = url_path_join("remote-provisioners/kernels", kernel_id, kind, port)
        try:
            self.unix_socket = await io_thread().call(_socket_of(kernel, self._port))
        except RemoteProvisionerError as error:
            raise web.HTTPError(error.status, str(error)) from None

    @property
    def _own_cookies(self) -> Sequence[str]:
        """The name of the server's login cookie."""
        provider = self.identity_provider
        name = getattr(provider, "get_cookie_name", None)
        return [name(self)] if name is not None else []

    def _clean(self, response: Any) -> None:
        """Change an answer: it sets no cookie of Jupyter's, and its redirects lead here."""
        headers = response.headers
        cookies = headers.get_list("Set-Cookie")
        if cookies:
            del headers["Set-Cookie"]
            for cookie in cookies:
                if sets_other_cookie(cookie, self._own_cookies):
                    headers.add("Set-Cookie", cookie)
        location = headers.get("Location", "")
        for there in (f"http://localhost:{self._port}", f"https://localhost:{self._port}"):
            if location == there or location.startswith(f"{there}/"):
                headers["Location"] = location[len(there) :] or "/"


async def _socket_of(kernel: RemoteKernel, port: int) -> str:
    return await (await port_sockets()).path(kernel, port)
