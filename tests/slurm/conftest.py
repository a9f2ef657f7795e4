"""A Slurm cluster, one a session, and kernelspecs for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from remote_provisioners.io_thread import close_io_thread

from ..conftest import IPYKERNEL, InstallSpec, be_client
from ..rig import Rig, open_rig
from .cluster import Slurm, left_on, unavailable


@pytest.fixture(scope="session")
def slurm_rig() -> Iterator[Rig]:
    if missing := unavailable():
        pytest.skip(missing)
    opened = open_rig(3)
    if not opened.own_address:
        pytest.skip("needs root and network namespaces: each node of a cluster has its address")
    with opened:
        yield opened


@pytest.fixture(scope="session")
def cluster(slurm_rig: Rig) -> Iterator[Slurm]:
    made = Slurm(slurm_rig.hosts)
    try:
        made.open()
        yield made
    finally:
        made.close()


@pytest.fixture
def slurm(cluster: Slurm, slurm_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """The cluster, for the user of this machine and of the login node. Nothing may be left."""
    be_client(slurm_rig, monkeypatch)
    for name, value in cluster.environ.items():
        monkeypatch.setenv(name, value)
    yield cluster
    close_io_thread()
    cluster.gone()
    deadline = time.monotonic() + 20
    while left := left_on(cluster.hosts):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.fixture
def install_slurm(install_spec: InstallSpec) -> InstallSpec:
    """Install a kernelspec of the Slurm provisioner; returns its name."""

    def install(**options: object) -> str:
        config = {"python": sys.executable, **options}
        spec = {"argv": IPYKERNEL, "display_name": "slurm", "language": "python"}
        stanza = {"provisioner_name": "slurm-provisioner", "config": config}
        return install_spec(name="slurm", spec={**spec, "metadata": {"kernel_provisioner": stanza}})

    return install
