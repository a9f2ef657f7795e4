"""Every sample kernelspec for Spark through the same life, on its engine."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from remote_provisioners.cli.spec.samples import SparkSite

from ..conftest import Session, Start, eventually
from ..rig import Host
from ..table import Table
from .client import kernel_id, output, reply_of
from .conftest import InstallSample, StartTogether
from .languages import ASLEEP, JOB_RUNS, LANGUAGES, LAZY
from .requirements import require

#: In what Spark says when its session is over.
OVER = "SparkContext"
LOST = "engine lost while running"

ENGINES = {"standalone": "spark", "yarn_client": "yarn", "yarn_cluster": "yarn"}
#: Each engine and each language once; the other pairs are for `make test-all`.
SQUARE = {("python", "yarn_client"), ("R", "standalone"), ("scala", "yarn_cluster")}
PAIRS = [(language, engine) for engine in ENGINES for language in LANGUAGES]


def _cases(quick: set[tuple[str, str]]) -> list[Any]:
    return [
        pytest.param(
            language,
            engine,
            marks=[
                getattr(pytest.mark, ENGINES[engine]),
                *([] if (language, engine) in quick else [pytest.mark.long]),
            ],
            id=f"{language}-{engine}",
        )
        for language, engine in PAIRS
    ]


class Case:
    """A kernelspec on its engine."""

    def __init__(
        self,
        name: str,
        engine_name: str,
        request: pytest.FixtureRequest,
        install_sample: InstallSample,
        conformance: Table,
    ) -> None:
        require(name)
        self.engine: Any = request.getfixturevalue(engine_name.partition("_")[0])
        site: SparkSite = request.getfixturevalue(f"{engine_name.removesuffix('_client')}_site")
        self.spec, self.language = f"spark_{name}_{engine_name}", LANGUAGES[name]
        self.installed = install_sample(self.spec, site, options=self.engine.options)
        self._table = conformance

    def row(self, title: str) -> Any:
        return self._table.row([self.spec], title)

    def works(self, session: Session) -> None:
        language = self.language
        assert language.result in output(session, language.job, language.result)


def made_on(hosts: list[Host], name: str) -> None:
    """Wait until the file is there on one of them, and remove it."""
    host = eventually(lambda: [h for h in hosts if name in h.files("/tmp")], 90)[0]
    host.run(["rm", f"/tmp/{name}"])


def interrupted(session: Session, code: str, hosts: list[Host], file: str) -> str:
    """The reply to `code`, interrupted when it has made `file`."""
    request = session.client.execute(code, stop_on_error=False)
    made_on(hosts, file)
    session.manager.interrupt_kernel()
    return str(reply_of(session, request))


@pytest.mark.parametrize(("name", "engine_name"), _cases(SQUARE))
def test_life(
    name: str,
    engine_name: str,
    request: pytest.FixtureRequest,
    install_sample: InstallSample,
    start: Start,
    spark_rig: Any,
    conformance: Table,
) -> None:
    case = Case(name, engine_name, request, install_sample, conformance)
    engine, language, row, works = case.engine, case.language, case.row, case.works
    hosts = list(spark_rig.hosts)
    with row("start"):
        session = start(case.installed)
    with row("stdout"):
        assert "a line\n" in output(session, language.line, "a line")
    with row("error"):
        assert "boom" in output(session, language.error, "boom")
    with row("interrupt of a cell"):
        assert language.interrupted in interrupted(session, language.sleep, hosts, ASLEEP)
        if name in LAZY and engine_name != "yarn_cluster":  # it has made no session
            assert kernel_id(session) not in engine.applications()
    with row("Spark job"):
        works(session)
        assert kernel_id(session) in engine.applications()
    with row("completion"):
        reply = session.client.complete(language.begun, reply=True, timeout=60)
        assert language.completed in str(reply["content"]["matches"])
    with row("interrupt of a Spark job"):
        assert language.interrupted in interrupted(session, language.slow, hosts, JOB_RUNS)
        works(session)  # what there is of cores is free again
    with row("shutdown"):
        session.manager.shutdown_kernel()
        assert not session.manager.is_alive()
    with row("nothing left in the engine"):
        engine.gone()


@pytest.mark.parametrize(("name", "engine_name"), _cases(set()))
def test_trouble(
    name: str,
    engine_name: str,
    request: pytest.FixtureRequest,
    install_sample: InstallSample,
    start_together: StartTogether,
    spark_rig: Any,
    conformance: Table,
) -> None:
    """A second kernel, a killed driver, a lost engine, a restart."""
    case = Case(name, engine_name, request, install_sample, conformance)
    engine, language, row, works = case.engine, case.language, case.row, case.works
    session, second = start_together([case.installed] * 2)
    with row("two kernels side by side"):
        works(session)
        works(second)
        assert {*engine.applications()} == {kernel_id(session), kernel_id(second)}
        works(session)
    with row("kill -9 of the driver"):
        place = second.provisioner.place
        host = next(host for host in spark_rig.hosts if place in (host.target, host.address))
        host.run(["kill", "-KILL", str(second.kernel.pid)])
        eventually(lambda: not second.manager.is_alive(), 20)
        assert second.kernel.life.exit_code == -signal.SIGKILL
        if engine_name == "yarn_cluster":  # its container is the manager's to give back
            second.manager.shutdown_kernel(now=True)
        eventually(lambda: [*engine.applications()] == [kernel_id(session)], 60)
    if (name, engine_name) == ("scala", "yarn_client"):
        # Its jobs give results for a while, and then neither those nor an error of Spark's.
        conformance.note(case.spec, LOST, "Toree does not say so: restart the kernel")
    else:
        with row(LOST), engine.lost():
            works(session)  # its executor is there
        with row(LOST):
            if engine_name == "standalone":
                works(session)
            elif engine_name == "yarn_client":  # which does not know the application any more
                eventually(lambda: OVER in output(session, language.job), 90)
            else:
                eventually(lambda: not session.manager.is_alive(), 90)
                assert "of YARN" in session.provisioner.reason
    with row("restart"):
        session.manager.restart_kernel()
        session.client.kernel_info(reply=True, timeout=90)
        if engine_name == "yarn_cluster":  # the new one is an application at once
            eventually(lambda: engine.unfinished() == 1, 60)
        else:
            engine.gone()
        works(session)
    session.manager.shutdown_kernel()
    with row("nothing left in the engine"):
        engine.gone()
