"""One system call in five of an agent fails: no kernel is lost, none is left without an owner."""

from __future__ import annotations

import base64
import contextlib
import errno
import subprocess
import threading
import time
from pathlib import Path

import pytest

from remote_provisioners.errors import RemoteProvisionerError

from ..conftest import InstallSpec, Start, be_client, eventually
from ..rig import Host, Rig

SOURCE = Path(__file__).parents[1] / "rig/failing_calls.c"
LIBRARY = "/tmp/failing-calls.so"
SWITCH = "/tmp/failing-calls"
SECONDS = 20.0


def prepare(host: Host, directory: Path) -> None:
    """Have what is started on the host from now on able to fail."""
    library = directory / "failing_calls.so"
    argv = ["cc", "-shared", "-fPIC", "-O1", "-s", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(argv, check=True)
    host.write(f"{LIBRARY}.text", base64.b64encode(library.read_bytes()).decode())
    host.run(["sh", "-c", f"base64 -d {LIBRARY}.text > {LIBRARY}"])
    host.sshd_option(SetEnv=f"LD_PRELOAD={LIBRARY} FAILING_CALLS={SWITCH}")


def ipykernels(host: Host) -> set[int]:
    found = [p for p in host.processes() if "ipykernel" in " ".join(p.argv)]
    return {p.pid for p in found if "agent.pyz" not in " ".join(p.argv)}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ENOSPC", "EMFILE", "EAGAIN", "EIO"])
def test_no_kernel_is_lost(
    own_rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    install_spec: InstallSpec,
    start: Start,
    tmp_path: Path,
    kind: str,
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    prepare(host, tmp_path)
    name = install_spec(host.target, launch_timeout=15.0, network_grace=60.0)
    kept, restarted = start(name), start(name)
    for session in (kept, restarted):
        session.run("kept = 'kept'")
    pid = kept.kernel.pid

    host.write(SWITCH, str(getattr(errno, kind)))
    # A restart may wait for the next agent, which can hardly start before that.
    over = threading.Timer(SECONDS, host.run, [["rm", "-f", SWITCH]])
    over.start()
    outcomes = {"started": 0, "failed": 0}
    more = []
    began, killed = time.monotonic(), False
    while time.monotonic() - began < SECONDS:
        if not killed and time.monotonic() - began > SECONDS / 2:
            killed = True  # its successor fails as often, from its first call on
            host.run(["pkill", "-9", "-f", "agent.pyz"])
        try:
            more.append(start(name))
            outcomes["started"] += 1
        except (RemoteProvisionerError, TimeoutError, RuntimeError):
            outcomes["failed"] += 1
        with contextlib.suppress(RemoteProvisionerError, TimeoutError, RuntimeError):
            restarted.manager.restart_kernel(now=True)
        if more and outcomes["started"] % 2:
            with contextlib.suppress(RemoteProvisionerError):
                more.pop().manager.shutdown_kernel(now=True)
        time.sleep(0.1)
    over.join()

    assert kept.manager.is_alive()
    kept.client.kernel_info(reply=True, timeout=30)
    assert kept.value("kept") == "kept"
    assert kept.kernel.pid == pid
    more.append(start(name))
    assert more[-1].value("1") == 1
    alive = [s for s in (kept, restarted, *more) if s.manager.is_alive()]
    for session in [restarted, *more]:
        session.manager.shutdown_kernel(now=True)
    assert kept in alive
    kept.manager.shutdown_kernel(now=True)
    assert outcomes["failed"] or kind == "EAGAIN"  # a fork that fails is a spawn that works
    try:
        eventually(lambda: not ipykernels(host), 20)
    except AssertionError:
        print(host.run(["sh", "-c", "cat /tmp/remote-provisioners-*/*/agent.log"], check=False))
        raise
