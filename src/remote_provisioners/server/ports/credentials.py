"""Which parts of a request are Jupyter's own, so that they must not reach a host. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import unquote_plus, urlsplit

#: Cookies of jupyter_server and JupyterHub: by their names, and by how those begin.
_COOKIES = ("_xsrf",)
_COOKIE_PREFIXES = ("username-", "jupyterhub-", "_xsrf-")
_SCHEMES = ("token", "bearer")
_PARAMETERS = ("token", "_xsrf")


def is_jupyters(cookie: str, own: Iterable[str] = ()) -> bool:
    """Whether a cookie of this name is Jupyter's. `own`: further names, from the configuration."""
    return cookie in _COOKIES or cookie.startswith(_COOKIE_PREFIXES) or cookie in set(own)


def other_cookies(header: str, own: Iterable[str] = ()) -> str:
    """A Cookie header without Jupyter's cookies."""
    own = set(own)
    pairs = [pair.strip() for pair in header.split(";")]
    kept = [pair for pair in pairs if pair and not is_jupyters(_name(pair), own)]
    return "; ".join(kept)


def sets_other_cookie(header: str, own: Iterable[str] = ()) -> bool:
    """Whether a Set-Cookie header of an application leaves Jupyter's cookies alone."""
    return not is_jupyters(_name(header), own)


def is_login(authorization: str) -> bool:
    """Whether an Authorization header may be the one of Jupyter or JupyterHub."""
    return authorization.partition(" ")[0].lower() in _SCHEMES


def other_parameters(query: str) -> str:
    """A query without a token. The rest stays as it was written."""
    return "&".join(_others(query))


def without_token(url: str) -> str:
    """A URL (Referer) without a token in its query."""
    parts = urlsplit(url)
    return parts._replace(query=other_parameters(parts.query)).geturl()


def _others(query: str) -> Iterator[str]:
    for parameter in query.split("&"):
        if unquote_plus(parameter.partition("=")[0]) not in _PARAMETERS:
            yield parameter


def _name(pair: str) -> str:
    return pair.partition("=")[0].strip()
