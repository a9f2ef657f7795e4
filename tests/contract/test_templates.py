"""Templates in a real agent, with an ipykernel of a few lines: quick, and on every Python here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.agent.forking.templates import MOST_TEMPLATES
from remote_provisioners.options.expected import expected_kernel

from ..conftest import eventually
from ..unit.test_agent_on_old_python import FOUND, supported
from . import test_agent

LAUNCHER = """
import json, os, socket, sys, time
from ipykernel import kernelapp
frame = sys._getframe()
while frame.f_back:
    frame = frame.f_back
try:
    import added
except ImportError:
    added = None
descriptors = sorted(int(n) for n in os.listdir("/proc/self/fd") if int(n) > 2)
report = {
    "forked": frame.f_code.co_filename == "<stdin>",  # of which the template is
    "version": kernelapp.VERSION,
    "modules": sorted(sys.modules),
    "environ": dict(os.environ),
    "descriptors": len(descriptors) - 1,  # that of the listing
    "same": [sys.version, sys.path, sys.argv[:1], sys.flags, getattr(sys, "orig_argv", [])[:-1]],
    "added": added is not None,
}
with open(os.environ["KERNEL_REPORT"] + ".part", "w") as file:
    json.dump(report, file)
os.rename(file.name, os.environ["KERNEL_REPORT"])
path, sockets = json.load(open(sys.argv[2]))["ip"], []
for number in range(1, 6):
    sockets.append(socket.socket(socket.AF_UNIX))
    sockets[-1].bind("%s-%d" % (path, number))
    sockets[-1].listen(1)
time.sleep(300)
"""
KERNEL = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]


class Environment:
    """A venv with that ipykernel."""

    def __init__(self, path: Path, python: str, *options: str) -> None:
        argv = [python, "-m", "venv", "--without-pip", *options, str(path)]
        subprocess.run(argv, check=True)
        self.python = str(path / "bin/python")
        (self.site,) = path.glob("lib/python*/site-packages")
        for directory in ("ipykernel", "__pycache__"):  # to be made later would be a change
            (self.site / directory).mkdir()
        self.write("ipykernel/__init__", "")
        self.write("ipykernel/kernelapp", "VERSION = 1")
        self.write("ipykernel_launcher", LAUNCHER)

    def write(self, module: str, text: str) -> None:
        (self.site / f"{module}.py").write_text(text)


class Agent:
    """An agent, and what its kernels say of themselves."""

    def __init__(self, path: str, server: test_agent.Server, reports: Path) -> None:
        self._log = Path(path).with_name("agent.log")
        self.pid: int = server.hello["pid"]
        self._server = server
        self._reports = reports
        self._count = 0

    async def start(self, python: str, *flags: str, spawn: bool = False, **fields: Any) -> Any:
        """Start a kernel; what it says."""
        self._count += 1
        report = self._reports / f"report{self._count}"
        argv = [*(["env", python] if spawn else ["python"]), *flags, *KERNEL]
        request_env = {"KERNEL_REPORT": str(report)}
        kernel = f"k{self._count}"
        answer = await self._server.start(
            kernel, argv, python=python, request_env=request_env, **fields
        )
        await self._server.until(report.exists)
        await self._server.until(lambda: kernel in self._server.kernels("listening"))
        return {"pid": answer["pid"], **json.loads(report.read_text())}

    async def until(self, condition: Callable[[], object]) -> None:
        await self._server.until(condition)

    async def forked(self, python: str, *flags: str, **fields: Any) -> Any:
        """Start a kernel after the first of its environment, which is spawned."""
        first = await self.start(python, *flags, **fields)
        if first["forked"]:
            return first
        second = await self.start(python, *flags, **fields)
        assert second["forked"], self.log
        return second

    @property
    def log(self) -> str:
        return self._log.read_text()

    def remove(self) -> None:
        """Remove what it has left behind when it was killed."""
        own = self._log.parent.parent
        shutil.rmtree(own)
        for counted in own.parent.glob(f"{own.name}-*.kernels"):
            counted.unlink()

    @property
    def templates(self) -> list[int]:
        """The processes of templates: they read their program from standard input."""
        return [pid for pid, session in self._servers() if pid == session]

    @property
    def spares(self) -> list[int]:
        """The processes of kernels to come, in the sessions of their templates."""
        return [pid for pid, session in self._servers() if pid != session]

    def _servers(self) -> Iterator[tuple[int, int]]:
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                argv = (entry / "cmdline").read_bytes().split(b"\0")
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                if b"-" in argv and int(status[1]) == self.pid:
                    yield int(entry.name), int(status[3])


@contextlib.asynccontextmanager
async def agent(reports: Path, expected: str = "") -> AsyncIterator[Agent]:
    path = await test_agent.agent_socket(expected)
    async with test_agent.servers("a", path=path) as (server,):
        yield Agent(path, server, reports)


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(body, 60))


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv", sys.executable)


def flags_of(version: str) -> list[list[str]]:
    safe_path = [["-P"]] if tuple(map(int, version.split("."))) >= (3, 11) else []
    return [[], ["-I"], ["-E", "-s"], ["-uO", "-X", "dev", "-Wignore"], *safe_path]


@pytest.mark.parametrize("version", [v for v in FOUND if supported(v)])
def test_every_python_forks_what_it_would_spawn(version: str, tmp_path: Path) -> None:
    python = Environment(tmp_path / "venv", FOUND[version]).python

    async def body() -> None:
        async with agent(tmp_path) as here:
            for flags in flags_of(version):
                forked = await here.forked(python, *flags)
                spawned = await here.start(python, *flags, spawn=True)
                assert not spawned["forked"]
                for name in ("same", "descriptors"):
                    assert forked[name] == spawned[name]

    run(body())


def test_the_first_kernel_waits_for_no_template(environment: Environment, tmp_path: Path) -> None:
    """It is spawned. The template is loaded a little later, or for the second one."""
    environment.write("ipykernel/kernelapp", "VERSION = 1\nimport time; time.sleep(0.5)")

    async def body() -> None:
        async with agent(tmp_path) as here:
            first = asyncio.ensure_future(here.start(environment.python))
            await asyncio.sleep(0.1)
            second = await here.start(environment.python)
            assert ((await first)["forked"], second["forked"]) == (False, True)
            await here.start(environment.python, env={"OTHER": "1"})
            await here.until(lambda: len(here.templates) == 2)

    run(body())


def test_the_kernel_that_an_agent_is_started_for_is_forked(
    environment: Environment, tmp_path: Path
) -> None:
    """The kernel's template loads while the agent starts."""
    python, env = environment.python, {"OTHER": "$HOME"}

    async def body() -> None:
        async with agent(tmp_path, expected_kernel(["python", *KERNEL], env, python)) as here:
            await here.until(lambda: here.templates)
            forked = await here.start(python, env=env)
            spawned = await here.start(python, env=env, spawn=True)
            assert (forked["forked"], spawned["forked"]) == (True, False)
            for name in ("same", "descriptors"):
                assert forked[name] == spawned[name]
            assert len(here.templates) == 1

    run(body())


@pytest.mark.parametrize("wrong", ["{", '{"argv": []}', '{"argv": ["python"], "env": {}}'])
def test_a_kernel_that_its_agent_does_not_expect_is_spawned(
    environment: Environment, tmp_path: Path, wrong: str
) -> None:
    async def body() -> None:
        async with agent(tmp_path, wrong) as here:
            assert not (await here.start(environment.python))["forked"]
            assert "no first template" in here.log

    run(body())


def test_an_expected_interpreter_that_is_not_there_stops_no_kernel(
    environment: Environment, tmp_path: Path
) -> None:
    async def body() -> None:
        async with agent(tmp_path, expected_kernel(["python", *KERNEL], {}, "/nowhere")) as here:
            assert not (await here.start(environment.python))["forked"]
            assert "no first template: program '/nowhere' does not exist" in here.log

    run(body())


def test_an_interpreter_of_its_own_is_spawned(environment: Environment, tmp_path: Path) -> None:
    """No template would ever be of use to a second kernel."""
    env = {"PYTHONPATH": str(tmp_path / "{kernel_id}")}

    async def body() -> None:
        async with agent(tmp_path) as here:
            for kernel in ("k1", "k2"):
                started = await here.start(
                    environment.python, env=env, warm=1, substitutions={"kernel_id": kernel}
                )
                assert (started["forked"], here.templates) == (False, [])
                assert started["environ"]["PYTHONPATH"] == str(tmp_path / kernel)
            assert here.log.count("are spawned: its interpreter reads the kernel id") == 1

    run(body())


# -- freshness -----------------------------------------------------------------------------


def test_a_changed_environment_has_a_new_template(environment: Environment, tmp_path: Path) -> None:
    python = Path(environment.python)

    async def body() -> None:
        async with agent(tmp_path) as here:

            async def start() -> tuple[Any, list[int]]:
                started = await here.forked(environment.python)
                return started, here.templates

            first, template = await start()
            assert (await start())[1] == template
            environment.write("ipykernel/kernelapp", "VERSION = 2 + 0")
            at_once = await here.start(environment.python)
            assert (at_once["version"], at_once["forked"]) == (2, False)
            second, changed = await start()
            assert (first["version"], second["version"]) == (1, 2)
            assert not set(template) & set(changed)
            environment.write("added", "")
            third, installed = await start()
            assert (second["added"], third["added"]) == (False, True)
            assert not set(installed) & set(changed)
            program = os.path.realpath(python)
            python.unlink()
            shutil.copy2(program, python)
            assert not set((await start())[1]) & set(installed)
            assert here.log.count("has changed") == 3

    run(body())


def test_a_first_package_of_the_user_is_seen(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv", sys.executable, "--system-site-packages")
    env = {"PYTHONUSERBASE": str(tmp_path / "user")}
    site = "site.getusersitepackages()"
    asked = subprocess.check_output(
        [environment.python, "-c", f"import site; print({site})"], env={**os.environ, **env}
    )

    async def body() -> None:
        async with agent(tmp_path) as here:
            assert not (await here.forked(environment.python, env=env))["added"]
            user = Path(asked.decode().strip())
            user.mkdir(parents=True)
            (user / "added.py").touch()
            assert (await here.start(environment.python, env=env))["added"]
            assert (await here.forked(environment.python, env=env))["added"]

    run(body())


def test_another_hook_is_another_template(environment: Environment, tmp_path: Path) -> None:
    async def body() -> None:
        async with agent(tmp_path) as here:
            for value in ("1", "2"):
                started = await here.forked(environment.python, hook=f"export HOOKED={value}")
                assert started["environ"]["HOOKED"] == value
            assert len(here.templates) == 2

    run(body())


def test_templates_not_used_any_more_end(environment: Environment, tmp_path: Path) -> None:
    async def body() -> None:
        async with agent(tmp_path) as here:
            for number in range(MOST_TEMPLATES + 2):
                await here.forked(environment.python, env={"NUMBER": str(number)})
                assert len(here.templates) == min(number + 1, MOST_TEMPLATES)

    run(body())


# -- ends ----------------------------------------------------------------------------------


def test_a_killed_template_is_replaced(environment: Environment, tmp_path: Path) -> None:
    async def body() -> None:
        async with agent(tmp_path) as here:
            kernel = await here.forked(environment.python)
            for _ in range(2):
                (template,) = here.templates
                os.kill(template, signal.SIGKILL)
                assert not (await here.start(environment.python))["forked"]
                assert (await here.start(environment.python))["forked"], here.log
            os.kill(kernel["pid"], 0)

    run(body())


def test_the_next_kernel_is_forked_ahead(environment: Environment, tmp_path: Path) -> None:
    async def body() -> None:
        async with agent(tmp_path) as here:
            await here.forked(environment.python)
            for _ in range(2):
                await here.until(lambda: len(here.spares) == 1)
                (spare,) = here.spares
                assert (await here.start(environment.python))["pid"] == spare
            await here.until(lambda: len(here.spares) == 1)
            (killed,) = here.spares
            os.kill(killed, signal.SIGKILL)
            await here.until(lambda: here.spares not in ([], [killed]))
            (template,), (spare,) = here.templates, here.spares
            assert (await here.start(environment.python))["pid"] == spare
            await here.until(lambda: len(here.spares) == 1)
            (spare,) = here.spares
            environment.write("ipykernel/kernelapp", "VERSION = 2 + 0")
            started = await here.start(environment.python)
            assert (started["version"], started["forked"]) == (2, False)
            await here.until(lambda: {template, spare}.isdisjoint(here.templates + here.spares))

    run(body())


def test_a_template_killed_during_a_start(environment: Environment, tmp_path: Path) -> None:
    environment.write("ipykernel/kernelapp", "VERSION = 1\nimport time; time.sleep(0.5)")

    async def body() -> None:
        async with agent(tmp_path) as here:
            await here.start(environment.python)
            starting = asyncio.ensure_future(here.start(environment.python))
            while not here.templates:
                await asyncio.sleep(0.01)
            os.kill(here.templates[0], signal.SIGKILL)
            assert not (await starting)["forked"]
            assert "spawned: it ended" in here.log

    run(body())


def test_templates_end_with_a_killed_agent(environment: Environment, tmp_path: Path) -> None:
    async def body() -> None:
        async with agent(tmp_path) as here:
            kernels = [
                await here.start(environment.python, preload=["no_such_module"]) for _ in range(2)
            ]
            (template,) = here.templates
            os.kill(here.pid, signal.SIGKILL)
            eventually(lambda: not Path(f"/proc/{template}").exists())
            for kernel in kernels:
                os.kill(kernel["pid"], signal.SIGKILL)
        here.remove()

    run(body())


# -- preload -------------------------------------------------------------------------------


def test_preload(environment: Environment, tmp_path: Path) -> None:
    environment.write("good", "")
    environment.write(
        "threads",
        "import threading as t, time\nt.Thread(target=time.sleep, args=[60], daemon=True).start()",
    )
    environment.write("raises", "raise RuntimeError('not here')")
    environment.write("ends", "import sys; sys.exit('the end')")
    names = ["threads", "raises", "ends", "missing", "good"]

    async def body() -> None:
        async with agent(tmp_path) as here:
            await here.forked(environment.python, preload=names)
            while (
                "good"
                not in (started := await here.start(environment.python, preload=names))["modules"]
            ):
                assert started["forked"]
            assert not set(names[:-1]) & set(started["modules"])
            for name, why in (
                ("threads", "it starts 1 threads on import"),
                ("raises", "RuntimeError: not here"),
                ("ends", "SystemExit: the end"),
                ("missing", "ModuleNotFoundError: No module named 'missing'"),
            ):
                assert f"preload: {name} is left out: {why}\n" in here.log
            assert "good is" not in here.log

    run(body())


def test_a_slow_module_keeps_nobody_waiting(environment: Environment, tmp_path: Path) -> None:
    go = tmp_path / "go"
    environment.write(
        "slow", f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)"
    )

    async def body() -> None:
        async with agent(tmp_path) as here:
            spawned = await here.start(environment.python, spawn=True)
            for _ in range(3):
                started = await here.forked(environment.python, preload=["slow"])
                assert "slow" not in started["modules"]
                assert started["descriptors"] == spawned["descriptors"]
            go.touch()
            while "slow" not in (await here.start(environment.python, preload=["slow"]))["modules"]:
                pass  # while those of before run on
            assert "does not answer" not in here.log

    run(body())
