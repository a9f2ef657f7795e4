"""SPNEGO (RFC 4559): HTTP client and server prove their identities by Kerberos.

Uses the package gssapi. It may wait for a KDC that does not answer, so each call has a thread.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ...errors import AuthenticationError

T = TypeVar("T")

_SCHEME = "negotiate"
_SPNEGO, _KRB5 = "1.3.6.1.5.5.2", "1.2.840.113554.1.2.2"
_MISSING = (
    "it asks for Kerberos (SPNEGO): pip install 'remote-provisioners[kerberos]'\n"
    "where the server runs"
)


def demanded(challenges: Sequence[str]) -> bool:
    """Whether one of these WWW-Authenticate values asks for SPNEGO."""
    return _token(challenges) is not None


def _token(challenges: Sequence[str]) -> str | None:
    """The server's token, "" if it is empty; None without SPNEGO."""
    for challenge in ",".join(challenges).split(","):
        scheme, _, token = challenge.strip().partition(" ")
        if scheme.lower() == _SCHEME:
            return token.strip()
    return None


class Negotiation:
    """A negotiation with the host of a web address."""

    def __init__(self, host: str, environ: Mapping[str, str]) -> None:
        """`environ` names the ticket cache (KRB5CCNAME), if it is not this process's."""
        self.peer = f"HTTP@{host}"
        self._cache = environ.get("KRB5CCNAME", "")
        self._context: Any = None

    async def authorization(self) -> str:
        """The value of the header Authorization. Raises AuthenticationError."""
        token = await _in_thread(self._begin)
        return f"Negotiate {base64.b64encode(token).decode()}"

    async def finish(self, challenges: Sequence[str]) -> bool:
        """Whether the server has proved its identity in WWW-Authenticate."""
        try:
            token = base64.b64decode(_token(challenges) or "", validate=True)
        except binascii.Error:
            return False
        return bool(token) and await _in_thread(lambda: self._end(token))

    def _begin(self) -> bytes:
        gssapi = _library()
        kerberos, spnego = map(gssapi.OID.from_int_seq, (_KRB5, _SPNEGO))
        own = self._cache in ("", os.environ.get("KRB5CCNAME"))
        store = None if own else {"ccache": self._cache}
        try:
            # SPNEGO hides reasons and skips Kerberos credentials, so ask Kerberos first.
            ticket = gssapi.Credentials(usage="initiate", mechs=[kerberos], store=store)
            _ = ticket.lifetime  # raises an error if it has expired
            self._context = gssapi.SecurityContext(
                name=gssapi.Name(self.peer, gssapi.NameType.hostbased_service),
                creds=gssapi.Credentials(usage="initiate", mechs=[spnego], store=store),
                mech=spnego,
                flags=gssapi.RequirementFlag.mutual_authentication,
                usage="initiate",
            )
            return self._context.step() or b""
        except gssapi.exceptions.GSSError as error:
            raise AuthenticationError(self._explained(error)) from None

    def _explained(self, error: Any) -> str:
        """The library's message, which names what it has looked for."""
        gssapi = _library()
        said = "; ".join(error.get_all_statuses(error.min_code, False))
        cache = f" (KRB5CCNAME: {self._cache})" if self._cache else ""
        said += cache if self._cache not in said else ""
        if isinstance(error, gssapi.exceptions.MissingCredentialsError):
            return f"it asks for a Kerberos ticket, and there is none: {said}; run kinit"
        if isinstance(error, gssapi.exceptions.ExpiredCredentialsError):
            return f"it asks for a Kerberos ticket, and ours has expired{cache}; run kinit"
        return f"Kerberos has no ticket for {self.peer}: {said}"

    def _end(self, token: bytes) -> bool:
        gssapi = _library()
        mutual = gssapi.RequirementFlag.mutual_authentication
        try:
            self._context.step(token)
            return bool(self._context.complete) and mutual in self._context.actual_flags
        except gssapi.exceptions.GSSError:
            return False


def _library() -> Any:
    """Import gssapi. Raises AuthenticationError if it is not installed."""
    try:
        return importlib.import_module("gssapi")
    except ImportError:
        raise AuthenticationError(_MISSING) from None


async def _in_thread(call: Callable[[], T]) -> T:
    executor = ThreadPoolExecutor(1, "kerberos")
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, call)
    finally:
        executor.shutdown(wait=False)
