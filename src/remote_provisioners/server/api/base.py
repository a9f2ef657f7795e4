"""The common part of all handlers: authorization, errors as JSON, checked request bodies."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from ...errors import RemoteProvisionerError
from ..view.actions import Actions
from ..view.environments import Environments
from ..view.models import Model, UnknownNameError, error_model
from ..view.view import View

#: The resource name that an authorizer gets.
RESOURCE = "remote_kernels"
#: How many items of a list are written in one step.
_AT_A_TIME = 100
VIEW, ACTIONS = "remote_provisioners_view", "remote_provisioners_actions"
ENVIRONMENTS = "remote_provisioners_environments"


class RemoteHandler(APIHandler):
    """Translates a request into a call, and its result or error into JSON."""

    auth_resource = RESOURCE

    @property
    def view(self) -> View:
        found: View = self.settings[VIEW]
        return found

    @property
    def actions(self) -> Actions:
        found: Actions = self.settings[ACTIONS]
        return found

    @property
    def environments(self) -> Environments:
        found: Environments = self.settings[ENVIRONMENTS]
        return found

    def flag(self, name: str) -> bool:
        return self.get_query_argument(name, "false") in ("true", "1")

    def body(self, **kinds: type | tuple[type, ...]) -> Model:
        """The fields of the body, which may be left out. Raises HTTPError 400."""
        body = self.get_json_body() or {}
        if not isinstance(body, dict):
            raise web.HTTPError(400, "the body is not a JSON object")
        for name, value in body.items():
            if name not in kinds:
                raise web.HTTPError(400, f"unknown field {name!r} (known: {', '.join(kinds)})")
            if not isinstance(value, kinds[name]) or isinstance(value, bool):
                raise web.HTTPError(400, f"field {name!r} has an invalid value")
        return body

    async def answer(self, model: Any, status: int = 200) -> None:
        """Send `model` as JSON. A thread writes it: a thousand hosts take milliseconds."""
        text = await asyncio.to_thread(as_json, model)
        self.set_status(status)
        await self.finish(text)


def as_json(model: Any) -> str:
    """`model` as JSON. Lets other threads run after each part of a long list."""
    if not isinstance(model, dict):
        return json.dumps(model)
    fields = []
    for name, value in model.items():
        if isinstance(value, list) and len(value) > _AT_A_TIME:
            parts = []
            for start in range(0, len(value), _AT_A_TIME):
                parts.append(json.dumps(value[start : start + _AT_A_TIME])[1:-1])
                time.sleep(0)
            text = f"[{', '.join(parts)}]"
        else:
            text = json.dumps(value)
        fields.append(f"{json.dumps(name)}: {text}")
    return f"{{{', '.join(fields)}}}"


Method = Callable[..., Awaitable[None]]


def answers(method: Method) -> Any:
    """Decorate a handler: only for authorized users; its errors are sent as JSON."""

    @web.authenticated
    @authorized
    @functools.wraps(method)
    async def answered(self: RemoteHandler, *args: Any) -> None:
        try:
            await method(self, *args)
        except UnknownNameError as error:
            raise web.HTTPError(404, error.text) from None
        except RemoteProvisionerError as error:
            self.log.info("%s %s: %s", self.request.method, self.request.path, error)
            said = {"message": str(error), "reason": type(error).__name__}
            await self.answer({**said, "error": error_model(error)}, error.status_code)

    return answered
