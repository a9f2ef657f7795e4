"""Kernels in jobs of a real Slurm cluster."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from remote_provisioners.errors import (
    HostError,
    KernelStartError,
    LaunchTimeoutError,
    RemoteProvisionerError,
    StartCancelledError,
)
from remote_provisioners.io_thread import io_thread
from remote_provisioners.kernels.start.starts import starts

from ..conftest import SLEEP, InstallSpec, Start, eventually
from ..e2e.applications import Applications
from ..engines.errors import doctor
from ..in_background import InBackground
from .cluster import Slurm, left_on

pytestmark = [pytest.mark.slurm]

JOB = "__import__('os').environ['SLURM_JOB_ID']"


def test_a_kernel_in_a_job(slurm: Slurm, install_slurm: InstallSpec, start: Start) -> None:
    """Start, execute, interrupt, restart in the same job, shutdown."""
    session = start(install_slurm(slurm_memory="300M", slurm_cpus="2"))
    (job,) = slurm.jobs()
    assert session.value("1 + 1") == 2
    assert session.value("__import__('os').uname().nodename") in [h.name for h in slurm.nodes]
    number = session.value(JOB)
    assert "NumCPUs=2" in slurm.ask("scontrol", "show", "job", number)
    request = session.client.execute(SLEEP)
    while session.client.get_iopub_msg(timeout=20)["msg_type"] != "stream":
        pass
    session.manager.interrupt_kernel()
    while (reply := session.client.get_shell_msg(timeout=20))["parent_header"]["msg_id"] != request:
        pass
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    session.manager.restart_kernel()
    session.client.kernel_info(reply=True, timeout=30)
    assert session.value(JOB) == number
    assert slurm.jobs() == [job]
    session.manager.shutdown_kernel()
    assert slurm.jobs() == []


def waiting(text: str) -> str:
    """The kernel whose start waits for this, once there is one."""

    async def look() -> str:
        found = [s.kernel_id for s in starts().under_way if re.search(text, s.text)]
        return found[0] if found else ""

    return str(eventually(lambda: io_thread().call_blocking(look(), 10), 30))


def test_a_pending_job_is_cancelled(slurm: Slurm, install_slurm: InstallSpec) -> None:
    with slurm.busy():
        started = InBackground(install_slurm())
        kernel = waiting(r"^job \d+ is waiting (for resources|behind other jobs) in partition main")
        assert started.manager.provisioner.reason.startswith("job ")
        began = time.monotonic()

        async def cancel() -> bool:
            return starts().cancel(kernel)

        assert io_thread().call_blocking(cancel(), 10)
        assert isinstance(started.over(), StartCancelledError)
        assert slurm.jobs() == ["other"]
        assert time.monotonic() - began < 10  # 0.1 s on a machine that has time


@pytest.mark.parametrize("way", ["asyncssh", pytest.param("openssh", marks=pytest.mark.long)])
def test_through_a_login_node(
    slurm: Slurm,
    install_slurm: InstallSpec,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    """This machine has no Slurm. One connection to the login node carries everything."""
    monkeypatch.delenv("SLURM_CONF")
    name = install_slurm(slurm_login=slurm.controller.target, connect=way)
    sessions = [start(name), start(name)]
    assert [session.value("1 + 1") for session in sessions] == [2, 2]
    assert slurm.controller.tcp_connections() == 1
    sessions[0].manager.restart_kernel()
    sessions[0].client.kernel_info(reply=True, timeout=30)
    assert sessions[0].value("1 + 1") == 2
    for session in sessions:
        session.manager.shutdown_kernel()
    assert slurm.jobs() == []


REFUSED = [
    ({"slurm_partition": "nope"}, KernelStartError, "Slurm refused the job: invalid partition"),
    ({"slurm_partition": "drained"}, KernelStartError, "Required partition not available"),
    ({"slurm_memory": "900G"}, KernelStartError, "Memory specification can not be satisfied"),
    (
        {"slurm_partition": "short", "slurm_time": "10:00"},
        KernelStartError,
        r"Slurm does not run job \d+: .*partition short (allows|does not allow)",
    ),
    ({"python": "/nope/python"}, RemoteProvisionerError, "does not have the interpreter"),
    ({"slurm_login": "nowhere.invalid"}, HostError, "does not resolve"),
]


@pytest.mark.parametrize(("options", "kind", "text"), REFUSED)
def test_what_cannot_be(
    slurm: Slurm,
    install_slurm: InstallSpec,
    start: Start,
    options: dict[str, Any],
    kind: type[Exception],
    text: str,
) -> None:
    with pytest.raises(kind, match=text):
        start(install_slurm(**options))
    assert eventually(lambda: slurm.jobs() == [])


def test_the_end_of_the_time_is_announced(
    slurm: Slurm, install_slurm: InstallSpec, start: Start
) -> None:
    """In the cell that runs, or else in the next one."""
    session = start(install_slurm(slurm_partition="short"))
    shown: list[str] = []

    def collect(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            shown.append(message["content"]["text"])

    for _ in range(3):
        code = "import time; time.sleep(1)"
        session.client.execute_interactive(code, timeout=30, output_hook=collect)
    assert re.search(r"Slurm ends this kernel in \d+ seconds \(its time limit\)", "".join(shown))
    assert len(shown) == 1
    left = session.provisioner.placer.seconds_left  # what pages show
    assert left is not None
    assert 0 < left < 60


def of_a_server(slurm: Slurm, applications: Applications, name: str) -> tuple[Any, str, str]:
    """A server, a kernel there, and the kernel's job."""
    server = applications.server("server")
    kernel = server.start_kernel(name)
    return server, kernel, server.run(kernel, f"print({JOB})").strip()


def dead(server: Any, kernel: str) -> str:
    """Why the kernel is dead, as the API shows it; "" while it is not."""
    shown = server.ask("GET", f"/api/kernels/{kernel}")[1]
    return str(shown["reason"]) if shown["execution_state"] == "dead" else ""


@pytest.mark.long
def test_a_cancelled_job_is_not_replaced(
    slurm: Slurm, install_slurm: InstallSpec, tmp_path: Path
) -> None:
    """Its kernel is dead, and says why. Only its user asks for another job."""
    with Applications(tmp_path) as applications:
        server, kernel, job = of_a_server(slurm, applications, install_slurm())
        slurm.ask("scancel", job)
        reason = eventually(lambda: dead(server, kernel), 40)
        assert f"Slurm ended job {job}: it was cancelled" in reason
        assert slurm.jobs() == []
        server.ask("POST", f"/api/kernels/{kernel}/restart")
        assert server.run(kernel, f"print({JOB})").strip() not in ("", job)
        server.ask("DELETE", f"/api/kernels/{kernel}")
        eventually(lambda: slurm.jobs() == [])


@pytest.mark.long
def test_preemption(slurm: Slurm, install_slurm: InstallSpec, start: Start) -> None:
    session = start(install_slurm(slurm_partition="low"))
    job = session.value(JOB)
    slurm.ask(
        *("sbatch", "--partition=high", "--exclusive", "--job-name=other", "--output=/dev/null"),
        *("--time=1", "--wrap=sleep 30"),
    )
    eventually(lambda: not session.manager.is_alive(), 30)
    text = f"Slurm ended job {job}: a job with a higher priority took its place"
    assert text in session.provisioner.reason
    slurm.ask("scancel", "--name=other")


@pytest.mark.long
def test_a_node_fails(slurm: Slurm, install_slurm: InstallSpec, start: Start) -> None:
    session = start(install_slurm(slurm_partition="short"))
    job, node = session.value(JOB), slurm.nodes[0]
    node.link_down()
    try:
        eventually(lambda: not session.manager.is_alive(), 120)
    finally:
        node.link_up()
    assert f"Slurm ended job {job}: its node {node.name} failed" in session.provisioner.reason
    eventually(lambda: slurm.idle() == 2, 60)


@pytest.mark.long
def test_too_much_memory(slurm: Slurm, install_slurm: InstallSpec, start: Start) -> None:
    """The system kills the kernel at the job's limit. The job and its agent stay. If the system
    kills them too, Slurm says why.
    """
    if not slurm.limits_memory:
        pytest.skip("needs control groups of memory (version 1) that it may make")
    session = start(install_slurm(slurm_memory="300M", slurm_partition="short"))
    job = session.value(JOB)
    session.client.execute("x = bytearray(1 << 30)")
    eventually(lambda: not session.manager.is_alive(), 60)
    assert "a memory limit of this kernel was reached" in session.provisioner.reason
    session.manager.restart_kernel()
    session.client.kernel_info(reply=True, timeout=30)
    assert session.value(JOB) == job
    agent, kernel = str(session.agent), str(session.value("__import__('os').getpid()"))
    script = slurm.nodes[0].run(["ps", "-o", "ppid=", "-p", agent], user="root").strip()
    slurm.nodes[0].run(["kill", "-KILL", script, agent, kernel], user="root")
    eventually(lambda: not session.manager.is_alive(), 60)
    assert "JobState=OUT_OF_MEMORY" in slurm.ask("scontrol", "show", "job", job)
    reason = session.provisioner.reason
    assert f"Slurm ended job {job}: it used more memory than it asked for" in reason
    session.manager.restart_kernel()  # the next job removes what this one has left
    session.client.kernel_info(reply=True, timeout=30)


@pytest.mark.long
def test_slurm_ends_a_job_for_its_memory(
    slurm: Slurm, install_slurm: InstallSpec, start: Start
) -> None:
    """Where Slurm measures jobs, in place of limiting them. It kills the agent, too, so the next
    job on the node removes what this one has left.
    """
    name = install_slurm(slurm_memory="300M", slurm_partition="second")
    session, node = start(name), slurm.nodes[1]
    job = session.value(JOB)
    session.client.execute("x = bytearray(1 << 29)")
    eventually(lambda: not session.manager.is_alive(), 60)
    text = f"job {job} was killed on {node.name}: perhaps it used more memory than it asked for"
    assert text in session.provisioner.reason
    assert left_on([node])
    session.manager.restart_kernel()
    session.client.kernel_info(reply=True, timeout=30)
    assert session.value(JOB) != job


@pytest.mark.long
def test_a_slurmd_is_killed(slurm: Slurm, install_slurm: InstallSpec, start: Start) -> None:
    """An administrator takes its node down. The job has failed for Slurm, but nobody ends its
    processes, so the kernel goes on until slurmd is back.
    """
    session = start(install_slurm(slurm_partition="short"))
    job, node = session.value(JOB), slurm.nodes[0]
    slurm.kill_node(node)
    try:
        slurm.ask("scontrol", "update", f"nodename={node.name}", "state=down", "reason=test")
        eventually(lambda: "JobState=NODE_FAIL" in slurm.ask("scontrol", "show", "job", job))
        assert session.value("6 * 7") == 42
    finally:
        slurm.start_node(node)
    eventually(lambda: not session.manager.is_alive(), 60)
    assert f"Slurm ended job {job}: its node {node.name} failed" in session.provisioner.reason
    eventually(lambda: slurm.idle() == 2, 60)


@pytest.mark.long
def test_gpus(slurm: Slurm, install_slurm: InstallSpec, start: Start) -> None:
    """Slurm shares out the devices, and the kernel sees the numbers of its own."""
    visible = "__import__('os').environ.get('CUDA_VISIBLE_DEVICES')"
    name = install_slurm(slurm_gpus="fake:1", slurm_limits={"gpus": "fake:2"})
    sessions = [start(name), start(name)]
    assert sorted(session.value(visible) for session in sessions) == ["0", "1"]
    sessions[0].manager.restart_kernel()
    sessions[0].client.kernel_info(reply=True, timeout=30)
    assert sorted(session.value(visible) for session in sessions) == ["0", "1"]


@pytest.mark.long
def test_one_squeue_follows_all(
    slurm: Slurm, install_slurm: InstallSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At growing intervals, whatever the number of jobs that wait."""
    asked = tmp_path / "asked"
    shim = tmp_path / "bin" / "squeue"
    shim.parent.mkdir()
    real = shutil.which("squeue")
    shim.write_text(f'#!/bin/sh\necho "$@" >> {asked}\nexec {real} "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    name = install_slurm(slurm_queue_timeout=15.0)
    with slurm.busy():
        waiting_starts = [InBackground(name) for _ in range(4)]
        eventually(lambda: len(slurm.jobs()) == 5, 30)
        before = len(asked.read_text().splitlines())
        time.sleep(8)
        lines = asked.read_text().splitlines()[before:]
        errors = [started.over() for started in waiting_starts]
    assert all(isinstance(error, LaunchTimeoutError) for error in errors)
    # Thirty a second at first, then one after each eighth of the time: 38 in 8 s, if none is slow.
    assert 1 < len(lines) < 50
    for line in lines:
        jobs = re.search(r"--jobs=(\S+)", line)
        assert jobs is not None
        assert len(jobs[1].split(",")) == 4


REQUESTS: list[tuple[dict[str, str], int, str]] = [
    ({"KERNEL_SLURM_TIME": "30"}, 201, "TimeLimit=00:30:00"),
    ({"KERNEL_SLURM_TIME": "2:00:00"}, 403, "the most is 1:00:00"),
    ({"KERNEL_SLURM_PARTITION": "high"}, 201, "Partition=high"),
    ({"KERNEL_SLURM_PARTITION": "low"}, 403, "must be one of main, high"),
    ({"KERNEL_SLURM_ACCOUNT": "a"}, 403, "requests may not choose it here"),
    ({"KERNEL_SLURM_TIME": "soon"}, 400, "must be a time"),
    ({"KERNEL_SLURM_COLOUR": "red"}, 400, "unknown KERNEL_SLURM_COLOUR"),
]


@pytest.mark.long
def test_what_a_request_may_choose(
    slurm: Slurm, install_slurm: InstallSpec, tmp_path: Path
) -> None:
    limits = {"time": "1:00:00", "partition": ["main", "high"]}
    name = install_slurm(slurm_limits=limits)
    with Applications(tmp_path) as applications:
        server = applications.server("server")
        for env, status, text in REQUESTS:
            got, answer = server.ask("POST", "/api/kernels", {"name": name, "env": env})
            assert (env, got) == (env, status)
            if status != 201:
                assert text in answer["message"]
                continue
            job = server.run(answer["id"], f"print({JOB})").strip()
            assert text in slurm.ask("scontrol", "show", "job", job)
            server.ask("DELETE", f"/api/kernels/{answer['id']}")


@pytest.mark.long
def test_the_command_lists_kernels_in_jobs(
    slurm: Slurm, install_slurm: InstallSpec, tmp_path: Path
) -> None:
    with Applications(tmp_path) as applications:
        server, kernel, job = of_a_server(slurm, applications, install_slurm(slurm_time="30"))
        listed = applications.jupyter("remote", "kernels")
        assert listed.wait() == 0
        (line,) = [line for line in listed.output.splitlines() if kernel in line]
        assert re.search(rf"in use .*job {job} ends in (29|30)\.\d min", line), line
        server.ask("DELETE", f"/api/kernels/{kernel}")
        eventually(lambda: slurm.jobs() == [])


@pytest.mark.long
def test_the_doctor(slurm: Slurm, install_slurm: InstallSpec) -> None:
    code, said = doctor(install_slurm(slurm_login=slurm.controller.target))
    assert code == 0, said
    assert f"login       connected to {slurm.controller.name}" in said
    assert re.search(r"programs +sbatch, squeue, scancel, scontrol, srun: slurm-wlm 22", said)
    assert re.search(r"controller +Slurmctld\(primary\) at \S+ is UP", said)
    assert re.search(r"kernel +answers on \S+, [\d.]+ s after the request", said)
    code, said = doctor(install_slurm(slurm_partition="nope"))
    assert code == 1
    assert re.search(r"FAIL +partition +Slurm has no partition nope", said)
    with slurm.lost():
        code, said = doctor(install_slurm())
    assert re.search(r"FAIL +controller +Slurm's controller does not answer", said)
