"""YARN's cluster mode: what is its own; the life of kernels there is in test_conformance."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from remote_provisioners.cli.spec.samples import SparkSite
from remote_provisioners.engines.yarn.engine import YarnEngine
from remote_provisioners.engines.yarn.resource_manager import ResourceManager
from remote_provisioners.errors import (
    ConfigurationError,
    KernelStartError,
    LaunchTimeoutError,
    UnreachableError,
)

from ..conftest import Start, eventually, words
from ..engines.errors import doctor
from .conformance import Table
from .conftest import InstallSample
from .languages import samples_of
from .requirements import require
from .test_engine_away import NOBODY
from .yarn import Yarn

pytestmark = pytest.mark.yarn

NAME = "spark_python_yarn_cluster"
WAITS = "accepted by YARN, waiting for resources in queue small"


class Refusing(ResourceManager):
    """Kills nothing."""

    async def kill(self, application_id: str) -> None:
        raise UnreachableError("refused")


@pytest.fixture
def name(install_sample: InstallSample, yarn_cluster_site: SparkSite, yarn: Yarn) -> Iterator[str]:
    """An installed kernelspec; nothing of its kernels is left in YARN."""
    yield install_sample(NAME, yarn_cluster_site, options=yarn.options)
    yarn.gone()


def started(name: str, env: dict[str, str]) -> tuple[AsyncKernelManager, asyncio.Task[Any]]:
    """A manager and its start, under way."""
    manager = AsyncKernelManager(kernel_name=name, kernel_spec_manager=KernelSpecManager())
    return manager, asyncio.ensure_future(manager.start_kernel(env=env))


@pytest.mark.long
def test_no_container_is_free(
    name: str,
    install_sample: InstallSample,
    yarn_cluster_site: SparkSite,
    yarn: Yarn,
    conformance: Table,
) -> None:
    """It is said so, for a bounded time; who gives it up before is rid of it within 3 s."""
    names = {NAME: name}
    for language in set(samples_of("yarn_cluster")) - {"python"}:
        require(language)
        sample = samples_of("yarn_cluster")[language]
        names[sample] = install_sample(sample, yarn_cluster_site, options=yarn.options)

    async def given_up(name: str) -> None:
        manager, starting = started(name, {"KERNEL_QUEUE": "small"})
        while "ACCEPTED" not in yarn.applications().values():
            assert not starting.done(), await starting
            await asyncio.sleep(0.1)
        while WAITS not in manager.provisioner.reason:  # it may have been told of an earlier state
            assert not starting.done(), await starting
            await asyncio.sleep(0.1)
        began = time.monotonic()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        while yarn.applications():
            await asyncio.sleep(0.05)
        assert time.monotonic() - began < 30  # 3 s are the aim; a busy machine takes longer

    async def killed_by_hadoop() -> None:
        """Where YARN's web address does not let anybody kill."""
        manager, starting = started(name, {"KERNEL_QUEUE": "small"})
        while "ACCEPTED" not in yarn.applications().values():
            await asyncio.sleep(0.1)
        env = {**os.environ, **manager.kernel_spec.env}
        (tag,) = yarn.tags()
        await YarnEngine(Refusing([yarn.endpoint], env), env).cancel(tag)
        with pytest.raises(KernelStartError, match=words("is killed: ")):
            await starting

    async def too_late() -> None:
        env = {"KERNEL_QUEUE": "small", "KERNEL_LAUNCH_TIMEOUT": "25"}
        _, starting = started(name, env)
        with pytest.raises(LaunchTimeoutError, match=words(WAITS)):
            await starting

    for sample, installed in names.items():
        with conformance.row([sample], "no container free"):
            asyncio.run(given_up(installed))
    asyncio.run(killed_by_hadoop())
    asyncio.run(too_late())


def test_of_two_resource_managers_one_answers(
    install_sample: InstallSample, yarn_cluster_site: SparkSite, yarn: Yarn, start: Start
) -> None:
    """The other one is asked; and what cannot be submitted is an error with what was printed."""
    name = install_sample(NAME, yarn_cluster_site, options="--queue nowhere " + yarn.options)
    endpoints = {"RP_YARN_ENDPOINT": "http://127.0.0.1:1", "RP_ALT_YARN_ENDPOINT": yarn.endpoint}
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in endpoints.items():
            patch.setenv(variable, value)
        with pytest.raises(KernelStartError, match=r"(?s)nowhere"):
            start(name)


def test_a_container_that_fails(
    install_sample: InstallSample, yarn_cluster_site: SparkSite, yarn: Yarn, start: Start
) -> None:
    """The diagnostics of YARN are in the error."""
    site = replace(yarn_cluster_site, python="/nowhere/python")
    with pytest.raises(KernelStartError, match=words(r"application_\w+ is (failed|finished): .*")):
        start(install_sample(NAME, site, options=yarn.options))
    yarn.gone()


def test_a_host_cannot_be_asked_for(name: str, start: Start) -> None:
    with pytest.raises(ConfigurationError, match="YARN chooses the node"):
        start(name, env={"KERNEL_REMOTE_HOST": "a"})


def test_the_launcher_is_killed(name: str, start: Start, yarn: Yarn, spark_rig: Any) -> None:
    """With it goes the kernel: what the container had is given back."""
    session = start(name)
    host = next(h for h in spark_rig.hosts if h.address == session.provisioner.place)
    pids = [str(p.pid) for p in host.processes() if "--response-address" in p.argv]
    agents = [str(p.pid) for p in host.processes() if any("agent.pyz" in w for w in p.argv)]
    assert agents
    host.run(["kill", "-KILL", *pids, *agents], check=False)  # some end by themselves
    eventually(lambda: not session.manager.is_alive(), 30)
    reason = session.provisioner.reason
    assert re.search(r"application_\w+ is (failed|finished|killed): ", reason), reason
    session.manager.shutdown_kernel(now=True)


@pytest.mark.long
def test_another_process_adopts(name: str, start: Start) -> None:
    session = start(name)
    session.run("here = 42")
    info = asyncio.run(session.provisioner.get_provisioner_info())
    text = json.dumps(info, default=lambda value: value.decode())
    code = """
import asyncio, json, sys
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

async def main(name, info):
    manager = AsyncKernelManager(kernel_name=name, kernel_spec_manager=KernelSpecManager())
    info["connection_info"]["key"] = info["connection_info"]["key"].encode()
    await manager.start_kernel(kernel_id=info["kernel_id"], provisioner_info=info)
    client = manager.client()
    client.start_channels()
    def hook(message):
        if message["msg_type"] == "stream":
            print(message["content"]["text"], flush=True)
    await client.execute_interactive("print(here)", timeout=30, output_hook=hook)
    client.stop_channels()
    await manager.shutdown_kernel()

asyncio.run(main(sys.argv[1], json.loads(sys.stdin.read())))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, name], input=text, capture_output=True, text=True, check=False
    )
    assert "42" in done.stdout, done.stderr
    eventually(lambda: not session.manager.is_alive(), 30)


@pytest.mark.long
def test_the_doctor(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = doctor(name, "--timeout=90")
    assert code == 0, said
    assert "ok    engine      answers" in said
    assert "ok    kernel      answers on " in said


@pytest.mark.long
def test_the_doctor_without_a_resource_manager(
    install_sample: InstallSample, yarn_cluster_site: SparkSite, tmp_path: Path
) -> None:
    (tmp_path / "yarn-site.xml").write_text(NOBODY)
    name = install_sample(NAME, replace(yarn_cluster_site, hadoop_conf_dir=str(tmp_path)))
    code, said = doctor(name)
    assert code == 1
    assert re.search(r"FAIL  engine      YARN's ResourceManager does not answer: .*refused", said)
