"""Passes a request on to a program, and passes the answer back while it arrives.

It reads an answer only as fast as the browser does, so memory does not grow with the answer.
jupyter-server-proxy itself keeps an answer in memory until it is complete.
"""

from __future__ import annotations

import string
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
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
#: A program may take as long as it likes to answer.
_NO_LIMIT = aiohttp.ClientTimeout(total=None)


@asynccontextmanager
async def answer_of(
    socket: str, method: str, address: str, headers: Mapping[str, str], body: bytes
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer of the program behind a unix socket. Raises aiohttp.ClientError."""
    async with aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(path=socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_ADDED,
        max_line_size=_LONGEST_HEADER,
        max_field_size=_LONGEST_HEADER,
        timeout=_NO_LIMIT,
    ) as session:
        # The address stays as the browser has written it: "%2F" is not "/".
        url = URL(quote(address, safe=string.punctuation, encoding="latin-1"), encoded=True)
        async with session.request(
            method, url, headers=dict(_sent(headers)), data=body or None, allow_redirects=False
        ) as answer:
            yield answer


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
