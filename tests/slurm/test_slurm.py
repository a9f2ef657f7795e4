"""Kernels in jobs of a real Slurm cluster."""

from __future__ import annotations

import pytest

from ..conftest import SLEEP, InstallSpec, Start
from .cluster import Slurm

pytestmark = [pytest.mark.slurm]


def test_a_kernel_in_a_job(slurm: Slurm, install_slurm: InstallSpec, start: Start) -> None:
    """Start, execute, interrupt, restart in the same job, shutdown."""
    session = start(install_slurm())
    (job,) = slurm.jobs()
    assert session.value("1 + 1") == 2
    assert session.value("__import__('os').uname().nodename") in [h.name for h in slurm.nodes]
    number = session.value("__import__('os').environ['SLURM_JOB_ID']")
    request = session.client.execute(SLEEP)
    while session.client.get_iopub_msg(timeout=20)["msg_type"] != "stream":
        pass
    session.manager.interrupt_kernel()
    while (reply := session.client.get_shell_msg(timeout=20))["parent_header"]["msg_id"] != request:
        pass
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    session.manager.restart_kernel()
    session.client.kernel_info(reply=True, timeout=30)
    assert session.value("__import__('os').environ['SLURM_JOB_ID']") == number
    assert slurm.jobs() == [job]
    session.manager.shutdown_kernel()
    assert slurm.jobs() == []
