"""The engines of the conformance suite, each opened once a session, and its table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from remote_provisioners.io_thread import close_io_thread

from ..conftest import eventually
from ..table import Table
from .rig import LONG, RIGS, EngineRig, rig_class

ROWS = (
    "start",
    "execute",
    "stdout",
    "error",
    "completion",
    "interrupt",
    "restart in place",
    "files and ports",
    "two kernels side by side",
    "kill -9 of the kernel",
    "kill -9 of the agent",
    "kill -9 of the server",
    "kill -9 of the server while a start waits",
    "shutdown",
    "engine down at start",
    "engine lost while running",
    "no room",
    "cancelled while it waits",
    "limit hit",
    "nothing left in the engine",
)
_HEAD = """\
# What works on which engine

<!-- Written by the tests: python -m pytest tests/engines --conformance-table. -->

The same tests run on [Docker](docker.md), [Podman](docker.md#podman),
[Kubernetes](kubernetes.md), [Slurm](slurm.md) and [YARN](spark.md)
(`spark_python_yarn_cluster`), with real kernels on real engines. *yes* means that the test
passes. Any other text says what is different, or why the row does not apply.
[Another table](spark-conformance.md) shows all kernelspecs for Spark, also in R and Scala.

What *yes* means in some rows:

- *restart in place*: the kernel stays in its job, container or pod.
- *files and ports*: the drive shows the files that the kernel sees. The server passes on the
  kernel's web pages.
- *kill -9 of the agent*: another agent takes over the kernel. The kernel keeps its variables.
- *kill -9 of the server*: the next server restores the kernel. The kernel keeps its variables. The
  kernels of other servers go on.
- *kill -9 of the server while a start waits*: the next server cancels the start.
- *engine down at start*: the error names the part of the engine that does not answer.
- *engine lost while running*: the kernel goes on until the user shuts it down.
- *no room*: a start says what it waits for, and fails after a limited time. It leaves nothing.
- *limit hit*: the engine ends the kernel for its time or memory. The error names this limit.

"""
_table = Table("engines.md", _HEAD, ROWS)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "opened_engine" in metafunc.fixturenames:
        quick = metafunc.function.__name__ == "test_life"
        cases = []
        for name, (_, marker) in RIGS.items():
            marks = [getattr(pytest.mark, marker)]
            marks += [] if quick and name not in LONG else [pytest.mark.long]
            cases.append(pytest.param(name, marks=marks, id=name))
        metafunc.parametrize("opened_engine", cases, indirect=True, scope="session")


@pytest.fixture(scope="session")
def opened_engine(request: pytest.FixtureRequest) -> Iterator[EngineRig]:
    kind = rig_class(request.param)
    if missing := kind.unavailable():
        pytest.skip(missing)
    rig = kind()
    try:
        rig.open()
        yield rig
    finally:
        rig.close()


@pytest.fixture
def engine(opened_engine: EngineRig, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineRig]:
    """The engine, for a user of it. Nothing may be left in it."""
    opened_engine.be_client(monkeypatch)
    yield opened_engine
    close_io_thread()
    eventually(lambda: not opened_engine.jobs(), 30)
    deadline = time.monotonic() + 30
    while left := opened_engine.settled():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


Row = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def row(engine: EngineRig) -> Row:
    """A row of the table: it works if the block passes. Skips the test for a row with a note."""

    def row(title: str) -> AbstractContextManager[None]:
        if title in engine.notes:
            _table.note(engine.title, title, engine.notes[title])
            pytest.skip(f"{title}: {engine.notes[title]}")
        return seen(title)

    @contextmanager
    def seen(title: str) -> Iterator[None]:
        with _table.row([engine.title], title):
            yield
        if title in engine.remarks:
            _table.note(engine.title, title, engine.remarks[title])

    return row


@pytest.fixture
def install(
    engine: EngineRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Install a kernelspec for the engine, with more options; returns its name."""
    data = tmp_path / "jupyter"
    monkeypatch.setenv("JUPYTER_PATH", str(data))
    return lambda **options: engine.install(data, options)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--conformance-table"):
        _table.write()
