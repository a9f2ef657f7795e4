"""Handlers for the environments of a host."""

from __future__ import annotations

from tornado import web

from .base import RemoteHandler, answers


class EnvironmentsHandler(RemoteHandler):
    @answers
    async def get(self, name: str) -> None:
        """Ask the host for its environments."""
        await self.answer(await self.environments.on_host(name))

    @answers
    async def post(self, name: str) -> None:
        """Make kernelspecs of environments, which are named by their keys."""
        keys = self.body(environments=list).get("environments")
        if not keys or not all(isinstance(key, str) for key in keys):
            raise web.HTTPError(400, "the field environments must be a list of keys")
        await self.answer(await self.environments.add(name, keys), 201)


class RefreshHandler(RemoteHandler):
    @answers
    async def post(self, name: str) -> None:
        """Update the kernelspecs of the host's environments."""
        await self.answer(await self.environments.refresh(name))
