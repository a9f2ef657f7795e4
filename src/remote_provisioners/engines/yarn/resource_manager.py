"""YARN's ResourceManager through its REST API: find and kill applications.

https://hadoop.apache.org/docs/stable/hadoop-yarn/hadoop-yarn-site/ResourceManagerRest.html
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from ...errors import AuthenticationError, ConfigurationError, HostError, UnreachableError
from ...user import user_name
from .ends import why_ended
from .spnego import Negotiation, demanded

_SECONDS = 3.0
_FINAL = ("FINISHED", "FAILED", "KILLED")
_PREFIX = "yarn.resourcemanager"
_JSON = {"Accept": "application/json", "Content-Type": "application/json"}


@dataclass(frozen=True)
class Application:
    """YARN's description of an application."""

    id: str
    state: str
    queue: str
    diagnostics: str
    log: str

    @property
    def over(self) -> bool:
        return self.state in _FINAL

    @property
    def words(self) -> str:
        """Its state in words for users."""
        if self.state == "ACCEPTED":
            said = f"accepted by YARN, waiting for resources in queue {self.queue}"
        elif self.state == "RUNNING":
            said = "running on YARN, waiting for the kernel"
        else:
            said = f"{self.state.lower()} by YARN in queue {self.queue}"
        return f"{self.id} is {said}"

    @property
    def end(self) -> str:
        """Why it ended, as far as YARN knows."""
        log = f"\nIts log: {self.log}" if self.log else ""
        return f"{self.id} is {self.state.lower()}: {why_ended(self.diagnostics)}{log}"


class ResourceManager:
    """The ResourceManager of a cluster, or a pair of which one is active. In the I/O thread."""

    def __init__(
        self,
        endpoints: Sequence[str],
        environ: Mapping[str, str],
        *,
        secure: bool = False,
        user: str = "",
    ) -> None:
        """`endpoints`: http://host:8088, with or without /ws/v1/cluster. `environ` names the
        Kerberos ticket cache. `secure`: require that the server proves its identity by Kerberos;
        otherwise use Kerberos only if the server asks for it. `user`: the owner of the
        applications, if it is not this process's user.
        """
        self.endpoints = [e.rstrip("/").removesuffix("/ws/v1/cluster") for e in endpoints]
        self._environ = environ
        self._secure = secure
        self._user = user
        #: Cookies by endpoint, which replace another ticket.
        self._cookies: dict[str, str] = {}

    async def check(self) -> None:
        """Raises UnreachableError if no active one answers, or AuthenticationError."""
        await self.ask("metrics")  # a standby also answers "info"

    async def find(self, tag: str) -> Application | None:
        """The application with this tag. Raises UnreachableError, AuthenticationError."""
        answer = await self.ask(f"apps?applicationTags={quote(tag)}")
        for app in (answer.get("apps") or {}).get("app", []):
            fields = ("state", "queue", "diagnostics", "amContainerLogs")
            return Application(app["id"], *(app.get(name) or "" for name in fields))
        return None

    async def kill(self, application_id: str) -> None:
        """Kill an application in any state. Raises UnreachableError, also if this is refused."""
        user = quote(user_name())
        path = f"apps/{application_id}/state?user.name={user}"  # for servers that trust this
        await self.ask(path, method="PUT", body=json.dumps({"state": "KILLED"}))

    async def ask(self, path: str, **how: Any) -> Any:
        """What the API answers; `how`: as for a request of tornado. Raises UnreachableError."""
        errors = []
        if self._user:
            path += f"{'&' if '?' in path else '?'}doAs={quote(self._user, safe='')}"
        kind: type[HostError] = UnreachableError
        client: AsyncHTTPClient = SimpleAsyncHTTPClient(force_instance=True)
        try:
            for endpoint in list(self.endpoints):
                try:
                    answer = await self._fetch(client, endpoint, path, how)
                    found = json.loads(answer.body or b"{}")
                except AuthenticationError as error:
                    kind = AuthenticationError
                    errors.append(f"{endpoint}: {error}")
                    continue
                except (OSError, HTTPError, ValueError) as error:
                    errors.append(f"{endpoint}: {_said(error)}")
                    continue
                self.endpoints.remove(endpoint)
                self.endpoints.insert(0, endpoint)
                return found
        finally:
            client.close()
        what = "does not answer" if kind is UnreachableError else "cannot be asked"
        raise kind(f"YARN's ResourceManager {what}: {'; '.join(errors)}")

    async def _fetch(
        self, client: AsyncHTTPClient, endpoint: str, path: str, how: Mapping[str, Any]
    ) -> HTTPResponse:
        """Raises AuthenticationError and the client's errors."""

        async def fetch(headers: Mapping[str, str]) -> HTTPResponse:
            asked = client.fetch(
                f"{endpoint}/ws/v1/cluster/{path}",
                headers={**_JSON, **headers},
                connect_timeout=_SECONDS,
                request_timeout=_SECONDS,
                follow_redirects=False,  # it would lead to the active one, which comes next
                **how,
            )
            return await _to_its_end(asked)

        cookie = self._cookies.get(endpoint, "")
        if cookie or not self._secure:
            try:
                return await fetch({"Cookie": cookie} if cookie else {})
            except HTTPError as error:
                if error.code != 401 or not demanded(_challenges(error.response)):
                    raise
        negotiation = Negotiation(urlsplit(endpoint).hostname or "", self._environ)
        try:
            answer = await fetch({"Authorization": await negotiation.authorization()})
        except HTTPError as error:
            known = await negotiation.finish(_challenges(error.response))
            if known or error.code not in (401, 403):
                raise
            raise AuthenticationError(f"it refuses our Kerberos ticket: {_said(error)}") from None
        if not await negotiation.finish(_challenges(answer)):
            raise AuthenticationError(f"it does not show by Kerberos that it is {negotiation.peer}")
        self._cookies[endpoint] = _cookie(answer)
        return answer


def _challenges(response: HTTPResponse | None) -> list[str]:
    return response.headers.get_list("WWW-Authenticate") if response is not None else []


def _cookie(response: HTTPResponse) -> str:
    """The cookie to send next time."""
    return "; ".join(text.partition(";")[0] for text in response.headers.get_list("Set-Cookie"))


async def _to_its_end(asked: asyncio.Future[HTTPResponse]) -> HTTPResponse:
    """Wait for a request even if cancelled. Otherwise its socket would stay open."""
    try:
        return await asyncio.shield(asked)
    except asyncio.CancelledError:
        await asyncio.wait([asked])
        raise


def _said(error: Exception) -> str:
    """The server's message, if there is one."""
    response = error.response if isinstance(error, HTTPError) else None
    body = response.body.decode("utf-8", "replace") if response is not None else ""
    with contextlib.suppress(ValueError, AttributeError, KeyError):
        told = json.loads(body)
        body = str(told.get("RemoteException", told)["message"])
    body = body.strip()[:300]
    return f"{error}: {body}" if body and body not in str(error) else str(error)


def endpoints_of(directory: str) -> list[str]:
    """The web addresses of the ResourceManagers that yarn-site.xml in `directory` names.

    Raises ConfigurationError.
    """
    file = Path(directory, "yarn-site.xml")
    try:
        root = ET.parse(file).getroot()  # noqa: S314 # the operator's own file
    except (OSError, ET.ParseError) as error:
        raise ConfigurationError(f"cannot read {file}: {error}") from None
    rows = [(row.findtext("name") or "", row.findtext("value") or "") for row in root]
    values = {name.strip(): value.strip() for name, value in rows}
    ids = values.get(f"{_PREFIX}.ha.rm-ids", "")
    suffixes = [f".{name.strip()}" for name in ids.split(",")] if ids else [""]
    return [_endpoint(values, suffix) for suffix in suffixes]


def _endpoint(values: Mapping[str, str], suffix: str) -> str:
    secure = values.get("yarn.http.policy") == "HTTPS_ONLY"
    kind, port = ("webapp.https.address", 8090) if secure else ("webapp.address", 8088)
    host = values.get(f"{_PREFIX}.hostname{suffix}") or "localhost"
    address = values.get(f"{_PREFIX}.{kind}{suffix}") or f"{host}:{port}"
    address = address.replace(f"${{{_PREFIX}.hostname}}", host)
    return f"{'https' if secure else 'http'}://{address}"


def configuration_directory(environ: Mapping[str, str]) -> str:
    """The directory of yarn-site.xml, or ""."""
    for name in ("YARN_CONF_DIR", "HADOOP_CONF_DIR"):
        directory = environ.get(name, "")
        if directory and os.path.isfile(os.path.join(directory, "yarn-site.xml")):
            return directory
    return ""
