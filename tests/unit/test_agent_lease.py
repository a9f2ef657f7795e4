"""Leases and idleness: decisions of the agent, without a clock."""

from __future__ import annotations

import os
import subprocess
import time

from remote_provisioners.agent.kernels.lease import Leases
from remote_provisioners.agent.machine.usage import Idleness, Usage, usage_of

from ..conftest import eventually


def test_a_lease_runs_from_the_moment_its_owner_is_missed() -> None:
    leases = Leases()
    leases.note(["a", "b"], {"a", "b"}, 0)
    assert leases.left("a", 10, 5) is None
    leases.note(["a", "b"], {"b"}, 5)
    assert leases.left("a", 10, 5) == 10
    assert leases.left("b", 10, 5) is None
    leases.note(["a", "b"], set(), 8)
    assert leases.left("a", 10, 16) == -1
    assert leases.left("b", 10, 16) == 2
    leases.note(["a", "b"], {"a"}, 16)
    assert leases.left("a", 10, 99) is None
    leases.note(["a"], set(), 20)  # renewed in full
    assert leases.left("a", 10, 20) == 10


def test_what_a_kernel_does_at_rest_is_not_work() -> None:
    idle = Idleness()
    for second in range(101):  # a hundredth of a core, all the time
        idle.update({1: Usage(0, second * 0.01)}, second)
    assert idle.seconds(1) == 100
    idle.update({1: Usage(0, 3.0)}, 101)
    assert idle.seconds(1) == 0
    idle.update({1: Usage(0, 3.05)}, 103)
    assert idle.seconds(1) == 2
    idle.update({1: Usage(0, 3.5)}, 112)
    assert idle.seconds(1) == 0
    assert idle.seconds(2) is None
    idle.update({}, 113)
    assert idle.seconds(1) is None


def test_the_usage_of_a_group_is_that_of_all_its_processes() -> None:
    spin = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
    code = f"import subprocess, sys; {spin}subprocess.Popen([sys.executable, '-c', 'input()'])\n"
    process = subprocess.Popen(
        ["python3", "-c", code + "print('on', flush=True); input()"],
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    deadline = time.monotonic() + 10
    while True:  # until the second one is what it shall be
        alone = usage_of([process.pid])[process.pid]
        if alone.memory > 8 * 1024**2 or time.monotonic() > deadline:
            break
    assert alone.memory > 8 * 1024**2
    assert 0.25 < alone.cpu < 10
    os.killpg(process.pid, 9)
    process.communicate()
    eventually(lambda: usage_of([process.pid]) == {})  # what it started is reaped by init
    assert usage_of([]) == {}
