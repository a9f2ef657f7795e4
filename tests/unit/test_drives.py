"""The drives of a server: of configured hosts, and of nodes while their kernels run."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_server.services.contents.manager import AsyncContentsManager
from tornado.web import HTTPError

from remote_provisioners.placement.host_address import parse_address
from remote_provisioners.placement.inventory import HostSpec
from remote_provisioners.server.drive import drives


def test_the_drives_of_nodes_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels: dict[str, HostSpec] = {}

    async def nodes() -> dict[str, HostSpec]:
        return dict(kernels)

    async def read() -> Any:
        return SimpleNamespace(hosts={"gpu1": SimpleNamespace(spec=spec("gpu1"))})

    monkeypatch.setattr(drives, "_nodes", nodes)
    configuration: Any = SimpleNamespace(read=read)
    of_server = drives.Drives(configuration, AsyncContentsManager(), ["~"], trash=True)

    async def use() -> None:
        configured = await of_server.of("gpu1")
        drives_of_nodes = []
        for number in range(3):
            kernels.clear()
            kernels[f"node{number}"] = spec(f"node{number}")
            found = await of_server.of(f"node{number}")
            assert await of_server.of(f"node{number}") is found
            drives_of_nodes.append(weakref.ref(found))
        gc.collect()
        assert [drive() for drive in drives_of_nodes] == [None, None, found]
        assert await of_server.of("gpu1") is configured
        with pytest.raises(HTTPError) as gone:
            await of_server.of("node0")
        assert gone.value.status_code == 404

    asyncio.run(use())


def spec(name: str) -> HostSpec:
    return HostSpec(name, parse_address(name))
