"""Handlers for kernels and for their starts."""

from __future__ import annotations

import uuid

from tornado import web

from ..view.models import UnknownNameError
from .base import RemoteHandler, answers


class KernelsHandler(RemoteHandler):
    @answers
    async def get(self) -> None:
        await self.answer(await self.view.kernels())

    @answers
    async def post(self) -> None:
        """Start a kernel. The answer comes when it runs."""
        body = self.body(id=str, name=str, path=str, host=str, labels=list, gpus=int)
        if not body.get("name"):
            raise web.HTTPError(400, "the field name (the kernelspec) is missing")
        if not all(isinstance(label, str) for label in body.get("labels", ())):
            raise web.HTTPError(400, "labels must be texts")
        kernel_id = body.pop("id", "")
        if kernel_id:
            try:
                kernel_id = str(uuid.UUID(kernel_id))
            except ValueError:
                raise web.HTTPError(400, "id is not a UUID") from None
        started = await self.actions.start(body.pop("name"), kernel_id=kernel_id, **body)
        await self.answer(started, 201)


class KernelHandler(RemoteHandler):
    @answers
    async def get(self, kernel_id: str) -> None:
        """One kernel; with ``ask``, after asking its host."""
        await self.answer(await self.view.kernel(kernel_id, self.flag("ask")))

    @answers
    async def delete(self, kernel_id: str) -> None:
        await self.actions.stop(kernel_id, self.get_query_argument("host", ""))
        self.set_status(204)
        self.finish()


class LogsHandler(RemoteHandler):
    @answers
    async def get(self, kernel_id: str) -> None:
        host = self.get_query_argument("host", "")
        await self.answer({"output": await self.actions.logs(kernel_id, host)})


class MoveHandler(RemoteHandler):
    @answers
    async def post(self, kernel_id: str) -> None:
        body = self.body(host=str)
        if not body.get("host"):
            raise web.HTTPError(400, "the field host (the destination) is missing")
        await self.answer(await self.actions.move(kernel_id, body["host"]))


class StartHandler(RemoteHandler):
    @answers
    async def delete(self, kernel_id: str) -> None:
        """Cancel a start."""
        if not await self.actions.cancel(kernel_id):
            raise UnknownNameError("kernel", kernel_id)
        self.set_status(204)
        self.finish()


class FoundKernelsHandler(RemoteHandler):
    @answers
    async def get(self) -> None:
        await self.answer(await self.view.found_kernels())
