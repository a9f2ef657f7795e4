"""Hosts."""

from __future__ import annotations

from .base import RemoteHandler, answers


class HostsHandler(RemoteHandler):
    @answers
    async def get(self) -> None:
        """All hosts; with ``ask``, after asking each of them."""
        await self.answer(await (self.view.ask_hosts() if self.flag("ask") else self.view.hosts()))


class HostHandler(RemoteHandler):
    @answers
    async def get(self, name: str) -> None:
        await self.answer(await self.view.host(name))


class ReconnectHandler(RemoteHandler):
    @answers
    async def post(self, name: str) -> None:
        await self.answer(await self.view.reconnect(name))
