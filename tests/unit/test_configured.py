"""What a server knows of its configuration, while somebody changes it."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from traitlets.config import Config

from remote_provisioners.options.config import RemoteProvisionerConfigMixin
from remote_provisioners.options.installed_specs import InstalledSpec, installed_specs
from remote_provisioners.server.view import configured as module
from remote_provisioners.server.view.configured import Configuration


class Kernelspecs:
    """A directory of kernelspecs, and what a server knows of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        manager = KernelSpecManager(kernel_dirs=[str(directory)], ensure_native_kernel=False)
        self.configuration = Configuration(manager, Config())

    def install(self, name: str, hosts: Any) -> Path:
        stanza = {"provisioner_name": "distributed-provisioner", "config": {"remote_hosts": hosts}}
        content = {"argv": ["python"], "display_name": name, "language": "python"}
        directory = self._directory / name
        directory.mkdir(parents=True, exist_ok=True)
        metadata = {"kernel_provisioner": stanza}
        (directory / "kernel.json").write_text(json.dumps({**content, "metadata": metadata}))
        return directory

    async def hosts(self) -> dict[str, tuple[str, ...]]:
        hosts = (await self.configuration.read()).hosts
        return {name: host.kernelspecs for name, host in hosts.items()}

    async def problems(self) -> list[str]:
        return [*(await self.configuration.read()).problems]


@pytest.fixture
def kernelspecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernelspecs:
    monkeypatch.setattr(module, "_FRESH_SECONDS", -1.0)
    monkeypatch.delenv("RP_REMOTE_HOSTS", raising=False)
    return Kernelspecs(tmp_path / "kernels")


def test_a_kernelspec_that_is_replaced_is_known_again(
    kernelspecs: Kernelspecs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory is gone for a moment, just when the server reads it."""
    kernelspecs.install("one", ["host1"])
    directory = kernelspecs.install("two", ["host1", "host2"])

    def gone(*_: Any) -> Any:
        shutil.rmtree(directory)
        raise FileNotFoundError(f"no such file: {directory}")

    async def use() -> None:
        with monkeypatch.context() as during:
            during.setattr("jupyter_client.kernelspec.KernelSpec.from_resource_dir", gone)
            assert await kernelspecs.problems() == ["one", "two"]
        kernelspecs.install("two", ["host1", "host2"])
        assert await kernelspecs.hosts() == {"host1": ("one", "two"), "host2": ("two",)}
        assert await kernelspecs.problems() == []

    asyncio.run(use())


def test_an_error_is_not_remembered(
    kernelspecs: Kernelspecs, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernelspecs.install("one", ["host1"])

    def failing(_: Any) -> Any:
        raise OSError("the file system is away")

    async def use() -> None:
        with monkeypatch.context() as during:
            during.setattr(module, "installed_specs", failing)
            with pytest.raises(OSError, match="the file system is away"):
                await kernelspecs.hosts()
        assert await kernelspecs.hosts() == {"host1": ("one",)}

    asyncio.run(use())


def test_the_file_of_an_inventory_is_read_when_it_changes(
    kernelspecs: Kernelspecs, tmp_path: Path
) -> None:
    file = tmp_path / "hosts.json"
    kernelspecs.install("one", str(file))
    kernelspecs.install("two", ["host2"])

    async def use() -> None:
        assert await kernelspecs.problems() == ["one"]
        for hosts in (["host1"], ["host1", "host2"]):
            file.write_text(json.dumps({"hosts": hosts}))
            assert set(await kernelspecs.hosts()) == {*hosts, "host2"}
            assert await kernelspecs.problems() == []
        assert await kernelspecs.hosts() == {"host1": ("one",), "host2": ("one", "two")}
        file.unlink()
        assert await kernelspecs.problems() == ["one"]
        assert await kernelspecs.hosts() == {"host2": ("two",)}

    asyncio.run(use())


def test_what_has_not_changed_is_not_made_again(
    kernelspecs: Kernelspecs, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernelspecs.install("one", [f"host{number}" for number in range(10)])

    async def use() -> None:
        known = await kernelspecs.configuration.read()
        monkeypatch.delattr(RemoteProvisionerConfigMixin, "completed")
        assert await kernelspecs.configuration.read() is known

    asyncio.run(use())


def test_what_was_read_before_a_change_is_not_used(
    kernelspecs: Kernelspecs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page adds a kernelspec while another page's request reads them."""
    monkeypatch.setattr(module, "_FRESH_SECONDS", 60.0)
    kernelspecs.install("one", ["host1"])
    read, changed = threading.Event(), threading.Event()

    def slow(manager: KernelSpecManager) -> list[InstalledSpec]:
        found = installed_specs(manager)
        read.set()
        assert changed.wait(30)
        return found

    monkeypatch.setattr(module, "installed_specs", slow)

    async def use() -> None:
        reading = asyncio.ensure_future(kernelspecs.hosts())
        await asyncio.to_thread(read.wait)
        kernelspecs.install("two", ["host2"])
        kernelspecs.configuration.forget()
        changed.set()
        assert set(await kernelspecs.hosts()) == {"host1", "host2"}
        await reading
        assert set(await kernelspecs.hosts()) == {"host1", "host2"}

    asyncio.run(use())


def test_the_hosts_of_the_configuration_file(tmp_path: Path) -> None:
    """They are known if no kernelspec names hosts."""
    manager = KernelSpecManager(kernel_dirs=[str(tmp_path)], ensure_native_kernel=False)
    config = Config({"RemoteProvisionerConfigMixin": {"remote_hosts": ["host1"]}})

    async def use() -> None:
        (host,) = (await Configuration(manager, config).read()).hosts.values()
        assert (host.spec.name, host.kernelspecs) == ("host1", ())

    asyncio.run(use())
