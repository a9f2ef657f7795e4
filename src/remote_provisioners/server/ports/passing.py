"""Passes requests and websockets' messages on to a program, and its answers back as they arrive.

It reads them only as fast as the browser does, so memory does not grow with them.
jupyter-server-proxy itself keeps an answer in memory until it is complete, and refuses messages of
more than 10 MiB.
"""

from __future__ import annotations

import string
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

#: These headers concern one connection, not the request. aiohttp writes its own.
_OF_CONNECTIONS = {
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
#: Headers that aiohttp must not add.
_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_LONGEST_HEADER = 64 * 1024
#: The largest message of a websocket. Each message is in memory as a whole.
LONGEST_MESSAGE = 256 * 1024 * 1024
_PASSED = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.PING)
#: A program may take as long as it likes to answer.
_NO_LIMIT = aiohttp.ClientTimeout(total=None)


@asynccontextmanager
async def answer_of(
    socket: str, method: str, address: str, headers: Mapping[str, str], body: bytes
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer of the program behind a unix socket. Raises aiohttp.ClientError."""
    async with (
        _session(socket) as session,
        session.request(
            method,
            _url(address),
            headers=dict(_sent(headers)),
            data=body or None,
            allow_redirects=False,
        ) as answer,
    ):
        yield answer


@asynccontextmanager
async def web_socket(
    socket: str, address: str, headers: Mapping[str, str], protocols: Iterable[str]
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A websocket of the program behind a unix socket. Raises aiohttp.ClientError."""
    own = {
        name: value
        for name, value in _sent(headers)
        if not name.lower().startswith("sec-websocket-")
    }
    async with (
        _session(socket) as session,
        session.ws_connect(
            _url(address),
            headers=own,
            protocols=tuple(protocols),
            max_msg_size=LONGEST_MESSAGE,
            autoping=False,
        ) as opened,
    ):
        yield opened


async def messages_of(
    opened: aiohttp.ClientWebSocketResponse,
) -> AsyncIterator[tuple[aiohttp.WSMsgType, Any]]:
    """Texts, bytes and pings, until the program closes the websocket."""
    async for message in opened:
        if message.type is aiohttp.WSMsgType.PING:
            await opened.pong(message.data)
        if message.type in _PASSED:
            yield message.type, message.data


async def send(opened: aiohttp.ClientWebSocketResponse, message: str | bytes) -> None:
    if isinstance(message, str):
        await opened.send_str(message)
    else:
        await opened.send_bytes(message)


def _session(socket: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(path=socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_ADDED,
        max_line_size=_LONGEST_HEADER,
        max_field_size=_LONGEST_HEADER,
        timeout=_NO_LIMIT,
    )


def _url(address: str) -> URL:
    """The address as the browser has written it: "%2F" is not "/"."""
    return URL(quote(address, safe=string.punctuation, encoding="latin-1"), encoded=True)


def _sent(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        if name.lower() not in _OF_CONNECTIONS:
            # tornado has read latin-1, and aiohttp writes UTF-8.
            yield name, value.encode("latin-1", "replace").decode("utf-8", "replace")


def headers_of(answer: aiohttp.ClientResponse) -> Iterator[tuple[str, str]]:
    """The headers of an answer for the browser, byte by byte as the program has written them."""
    for name, value in answer.raw_headers:
        text = name.decode("latin-1")
        if text.lower() not in _OF_CONNECTIONS or text.lower() == "content-length":
            yield text, value.decode("latin-1")
