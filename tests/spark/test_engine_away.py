"""No engine, or no room in it: users are told so, can give up, and nothing is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from remote_provisioners.cli.spec.samples import SparkSite
from remote_provisioners.errors import RemoteProvisionerError

from ..conftest import Session, Start, words
from ..rig import Host
from .client import kernel_id, output, reply_of, told
from .conformance import Table
from .conftest import InstallSample, StartTogether
from .languages import LANGUAGES, LAZY, samples_of
from .requirements import require
from .yarn import Yarn

DOWN, FULL = "engine down at start", "no container free"
NO_QUEUE = "- (no queues there)"
TOREE_WAITS = "Toree says that it waits, not for what; the application stays in the queue"


def gives_up(sessions: dict[str, Session], words: str) -> None:
    """In each a cell that needs Spark waits, says `words`, and is interrupted."""
    asked = {
        n: s.client.execute(LANGUAGES[n].job, stop_on_error=False) for n, s in sessions.items()
    }
    for name, session in sessions.items():
        told(session, words)
        session.manager.interrupt_kernel()
        assert LANGUAGES[name].interrupted in str(reply_of(session, asked[name]))
        assert "a line\n" in output(session, LANGUAGES[name].line, "a line")


def ends(sessions: dict[str, Session]) -> None:
    for session in sessions.values():
        session.manager.shutdown_kernel()
        assert not session.manager.is_alive()


def refused(
    engine: str,
    site: SparkSite,
    address: str,
    install_sample: InstallSample,
    start: Start,
    conformance: Table,
) -> None:
    """Kernels of this engine do not start without it: nobody is at `address`."""
    for language, sample in samples_of(engine).items():
        if engine != "yarn_cluster" and language in LAZY:
            continue
        require(language)
        name = install_sample(sample, site)
        with (
            conformance.row([sample], DOWN),
            pytest.raises(RemoteProvisionerError, match=words(f"not answer: .*{address}.*refused")),
        ):
            start(name)


def waited_for(
    engine: str,
    site: SparkSite,
    address: str,
    install_sample: InstallSample,
    start_together: StartTogether,
    conformance: Table,
) -> None:
    """These start, and say what they wait for where they are asked for Spark."""
    wanted = {n: sample for n, sample in samples_of(engine).items() if n in LAZY}
    for language in wanted:
        require(language)
    with conformance.row([*wanted.values()], DOWN):
        started = start_together([install_sample(sample, site) for sample in wanted.values()])
        sessions = dict(zip(wanted, started, strict=True))
        gives_up(sessions, f"waiting for the Spark session: no answer from {address}")
        ends(sessions)


@pytest.mark.spark
@pytest.mark.long
def test_no_master(
    standalone_site: SparkSite,
    driver_host: Host,
    install_sample: InstallSample,
    start: Start,
    start_together: StartTogether,
    conformance: Table,
) -> None:
    address = f"{driver_host.address}:7999"
    site = replace(standalone_site, spark_master=f"spark://{address}")
    refused("standalone", site, address, install_sample, start, conformance)
    waited_for(
        "standalone", site, f"spark://{address}", install_sample, start_together, conformance
    )
    for sample in samples_of("standalone").values():
        conformance.note(sample, FULL, NO_QUEUE)


ADDRESS = "127.0.0.1:1"
NOBODY = "".join(
    f"<property><name>yarn.resourcemanager.{kind}address</name><value>{ADDRESS}</value></property>"
    for kind in ("", "webapp.")
)
NOBODY = f"<configuration>{NOBODY}</configuration>"


@pytest.mark.yarn
def test_no_resource_manager(
    yarn_cluster_site: SparkSite,
    tmp_path: Path,
    install_sample: InstallSample,
    start: Start,
    conformance: Table,
) -> None:
    (tmp_path / "yarn-site.xml").write_text(NOBODY)
    site = replace(yarn_cluster_site, hadoop_conf_dir=str(tmp_path))
    refused("yarn_cluster", site, ADDRESS, install_sample, start, conformance)


@pytest.mark.yarn
@pytest.mark.long
def test_no_resource_manager_for_a_client(
    yarn_site: SparkSite,
    driver_host: Host,
    install_sample: InstallSample,
    start: Start,
    start_together: StartTogether,
    conformance: Table,
) -> None:
    directory = f"{driver_host.home}/nowhere"
    driver_host.write(f"{directory}/yarn-site.xml", NOBODY)
    site = replace(yarn_site, hadoop_conf_dir=directory)
    refused("yarn_client", site, ADDRESS, install_sample, start, conformance)
    waited_for(
        "yarn_client", site, f"yarn ({ADDRESS})", install_sample, start_together, conformance
    )


@pytest.mark.yarn
@pytest.mark.long
def test_no_container_is_free(
    yarn_site: SparkSite,
    yarn: Yarn,
    install_sample: InstallSample,
    start_together: StartTogether,
    conformance: Table,
) -> None:
    """It is said so, can be given up, and leaves the queue with its kernel."""
    wanted = samples_of("yarn_client")
    for language in set(wanted) - set(LAZY):
        conformance.note(wanted.pop(language), FULL, TOREE_WAITS)
    for language in wanted:
        require(language)
    with conformance.row([*wanted.values()], FULL):
        names = [install_sample(n, yarn_site, options=yarn.options) for n in wanted.values()]
        started = start_together(names, env={"KERNEL_EXTRA_SPARK_OPTS": "--queue small"})
        gives_up(
            dict(zip(wanted, started, strict=True)),
            "is accepted by YARN, waiting for resources in queue small",
        )
        assert yarn.applications() == {kernel_id(session): "ACCEPTED" for session in started}
        ends(dict(zip(wanted, started, strict=True)))
        yarn.gone()
