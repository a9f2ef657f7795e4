"""``/remote-provisioners/kernels/ID/port/PORT/``, by jupyter-server-proxy.

``…/proxy/PORT/`` is the same, as jupyter-server-proxy names it. But Spark's pages take the word
"proxy" for YARN's. A program behind ``…/proxy/absolute/PORT/`` gets the whole path.
Imported when a page is first asked for: jupyter-server-proxy takes a third of a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import aiohttp
from jupyter_core.utils import ensure_async
from jupyter_server.utils import url_path_join
from jupyter_server_proxy.handlers import ProxyHandler
from tornado import web
from tornado.httputil import HTTPHeaders
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError

from ...errors import RemoteProvisionerError
from ...io_thread import io_thread
from ...kernels.remote_kernel import RemoteKernel
from ...ports.port_sockets import port_sockets
from ..api.base import RESOURCE, VIEW
from ..view.models import UnknownNameError
from .credentials import (
    is_login,
    other_cookies,
    other_parameters,
    sets_other_cookie,
    without_token,
)
from .passing import LONGEST_MESSAGE, answer_of, headers_of, messages_of, send, web_socket

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_HIGHEST_PORT = 65535
#: The code of a closed websocket ("internal error"), and the bytes that a reason may have.
_FAILED, _LONGEST_REASON = 1011, 120


class PortHandler(ProxyHandler):  # type: ignore[misc]
    """One request or websocket to a port of the host of a kernel of this server."""

    auth_resource = RESOURCE
    ws: aiohttp.ClientWebSocketResponse | None = None
    _passing: asyncio.Task[None] | None = None
    _browser_left = False

    async def prepare(self) -> None:
        """Refuse users who may not run code in kernels, and writes by pages of other sites."""
        await super().prepare()
        if self._finished:  # sent to the login page
            return
        allowed = self.authorizer.is_authorized(self, self.current_user, "execute", RESOURCE)
        if not await ensure_async(allowed):
            raise web.HTTPError(403)
        if self.request.method not in _SAFE_METHODS and not self.check_origin():
            raise web.HTTPError(403, "the request comes from another site")

    # -- jupyter-server-proxy's methods -----------------------------------------------------

    async def http_get(self, kernel_id: str, kind: str, port: str, path: str) -> None:
        await self._pass_on(kernel_id, kind, port, path)

    async def post(self, kernel_id: str, kind: str, port: str, path: str) -> None:
        await self._pass_on(kernel_id, kind, port, path)

    put = delete = head = patch = options = post

    async def open(self, kernel_id: str, kind: str, port: str, path: str) -> None:
        """Open the program's websocket. The browser has its own already."""
        opened: asyncio.Future[aiohttp.ClientWebSocketResponse]
        opened = asyncio.get_running_loop().create_future()
        try:
            await self._find(kernel_id, kind, port)
            self._passing = asyncio.ensure_future(self._pass_messages(path, opened))
            self.ws = await opened
        except (web.HTTPError, aiohttp.ClientError, ConnectionError) as error:
            reason = f"port {port}: {getattr(error, 'log_message', None) or error}"
            self.close(_FAILED, reason.encode()[:_LONGEST_REASON].decode(errors="ignore"))

    @property
    def max_message_size(self) -> int:
        return LONGEST_MESSAGE

    async def on_message(self, message: str | bytes) -> None:
        self._record_activity()
        if self.ws is not None:
            with suppress(ConnectionError):  # the program has closed it
                await send(self.ws, message)

    async def on_ping(self, data: bytes) -> None:
        self._record_activity()
        if self.ws is not None:
            with suppress(ConnectionError):
                await self.ws.ping(data)

    def on_close(self) -> None:
        if self._passing is not None:
            self._passing.cancel()

    def on_connection_close(self) -> None:
        """The browser has left. A program may be silent for ever, as in a stream of events."""
        super().on_connection_close()
        self._browser_left = True
        if self._passing is not None:
            self._passing.cancel()

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
        """The address on the host, with the path exactly as the browser has sent it."""
        path = self.request.path
        if not self.absolute_url:
            path = path.partition(f"/{self.proxy_base}")[2]
        query = other_parameters(self.request.query)
        return f"{protocol}://{host}:{port}{path}" + ("?" if query else "") + query

    # -- ours -------------------------------------------------------------------------------

    async def _pass_messages(
        self, path: str, opened: asyncio.Future[aiohttp.ClientWebSocketResponse]
    ) -> None:
        """Pass on the program's messages, as fast as the browser takes them."""
        address = self.get_client_uri("http", "localhost", self._port, path)
        headers = {**self.proxy_request_headers(), **self._context()}
        protocols = self._requested_subprotocols or ()
        try:
            async with web_socket(self.unix_socket, address, headers, protocols) as program:
                opened.set_result(program)
                async for kind, data in messages_of(program):
                    self._record_activity()
                    if kind is aiohttp.WSMsgType.PING:
                        self.ping(data)  # a proxy before this server would end a silent connection
                    else:
                        binary = kind is aiohttp.WSMsgType.BINARY
                        await self.write_message(data, binary=binary)
        except WebSocketClosedError:  # the browser has left
            pass
        except (aiohttp.ClientError, ConnectionError) as error:
            if not opened.done():
                opened.set_exception(error)
                return  # `open` says why
        finally:
            if not opened.done():
                opened.set_exception(ConnectionError("the browser has left"))
        self.close()

    async def _pass_on(self, kernel_id: str, kind: str, port: str, path: str) -> None:
        await self._find(kernel_id, kind, port)
        self._record_activity()
        self._passing = asyncio.ensure_future(self._pass_answer(port, path))
        try:
            await self._passing
        except asyncio.CancelledError:
            if not self._browser_left:
                raise

    async def _pass_answer(self, port: str, path: str) -> None:
        begun = False
        try:
            address = self.get_client_uri("http", "localhost", self._port, path)
            headers = {**self.proxy_request_headers(), **self._context()}
            request = self.request
            async with answer_of(
                self.unix_socket, request.method or "GET", address, headers, request.body
            ) as answer:
                self._begin(answer)
                begun = True
                await web.RequestHandler.flush(self)  # the mixin's flush returns no future
                async for piece in answer.content.iter_any():
                    self.write(piece)
                    await web.RequestHandler.flush(self)
        except StreamClosedError:  # the browser has left
            return
        except aiohttp.ClientError as error:
            if not begun:
                text = f"port {port}: the program does not answer as a web server does: {error}"
                raise web.HTTPError(502, text) from None
            self.detach().close()  # so the browser sees that the answer is incomplete
        self._record_activity()

    def _context(self) -> dict[str, str]:
        """Tells the program the address of its pages. Some programs make links with it."""
        if self.absolute_url:
            return {}
        names = ("X-Forwarded-Context", "X-ProxyContextPath", "X-Forwarded-Prefix")
        return dict.fromkeys(names, self._base)

    @property
    def _base(self) -> str:
        base: str = url_path_join(self.base_url, self.proxy_base)
        return base

    def _begin(self, answer: aiohttp.ClientResponse) -> None:
        """Pass on status and headers, without Jupyter's cookies. Redirects lead to this address."""
        self.set_status(answer.status, answer.reason)
        self._headers = HTTPHeaders()
        for name, value in headers_of(answer):
            kept = value
            if name.lower() == "set-cookie" and not sets_other_cookie(value, self._own_cookies):
                continue
            if name.lower() == "location":
                kept = self._location(value)
            self.add_header(name, kept)

    def _location(self, location: str) -> str:
        for name in ("localhost", "127.0.0.1"):
            for there in (f"http://{name}:{self._port}", f"https://{name}:{self._port}"):
                if location == there or location.startswith(f"{there}/"):
                    location = location[len(there) :] or "/"
        ours = self.absolute_url or location.startswith((f"{self._base}/", "//"))
        return self._base + location if location.startswith("/") and not ours else location

    async def _find(self, kernel_id: str, kind: str, port: str) -> None:
        """Open the socket that leads to the port. Raises HTTPError."""
        self._port = int(port)
        if not 0 < self._port <= _HIGHEST_PORT:
            raise web.HTTPError(404)
        try:
            kernel = await self.settings[VIEW].of_this_server(kernel_id)
        except UnknownNameError:
            raise web.HTTPError(404, f"this server has no kernel {kernel_id}") from None
        self.absolute_url = kind == "proxy/absolute"
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


async def _socket_of(kernel: RemoteKernel, port: int) -> str:
    return await (await port_sockets()).path(kernel, port)
