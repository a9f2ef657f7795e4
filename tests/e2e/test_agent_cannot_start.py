"""An agent is killed while its kernel runs, and the next one cannot start: everybody is told why,
nothing of the kernel is removed, and it is found again once the cause is gone.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from remote_provisioners.errors import AgentError

from ..conftest import InstallSpec, Session, Start, be_client, eventually, words
from ..rig import Host, Rig


def agents(host: Host) -> list[int]:
    return [p.pid for p in host.processes() if any(w.endswith("agent.pyz") for w in p.argv)]


def kernels(host: Host) -> list[int]:
    return [p.pid for p in host.processes() if "ipykernel_launcher" in p.argv]


def of_kernels(host: Host) -> list[str]:
    """Records and sockets of kernels."""
    found = [path for path in host.files("/tmp") if "/k/" in path and not path.endswith("/")]
    assert any(path.endswith("record.json") for path in found)
    return [path for path in found if path.endswith("record.json") or "/k-" in path]


def inodes(host: Host) -> int:
    """How many files /tmp has."""
    return int(host.run(["df", "--output=iused", "/tmp"]).split()[-1])


def no_more_files(host: Host) -> Callable[[], None]:
    """Let /tmp have no room for another file, not even an empty one or a socket."""
    host.run(["sh", "-c", "rm /tmp/remote-provisioners-*/*/agent.sock"])
    host.run(["mount", "-o", f"remount,nr_inodes={inodes(host)}", "/tmp"])
    return lambda: host.run(["mount", "-o", "remount,nr_inodes=100k", "/tmp"]) and None


def no_more_processes(host: Host) -> Callable[[], None]:
    """Let a login of alice's start no program but its first."""
    path = str(host.homes["alice"] / ".bashrc")
    host.write(path, "ulimit -u 1\n", user="alice")
    return lambda: host.run(["rm", path]) and None


def still_has(session: Session) -> bool:
    """Output is lost until the next agent listens to the kernel."""
    try:
        return "kept" in session.run("print(kept)", timeout=3)
    except TimeoutError:
        return False


@pytest.mark.parametrize(
    ("user", "prevent", "said"),
    [
        ("root", no_more_files, "No space left on device"),
        ("alice", no_more_processes, "ulimit -u"),
    ],
    ids=["no-more-files", "no-more-processes"],
)
def test_a_start_that_fails_leaves_kernels_as_they_are(
    own_rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    install_spec: InstallSpec,
    start: Start,
    user: str,
    prevent: Callable[[Host], Callable[[], None]],
    said: str,
) -> None:
    be_client(own_rig, monkeypatch)
    host = own_rig.hosts[0]
    name = install_spec(f"{user}@{host.target}", network_grace=120.0)
    session = start(name)
    session.run("kept = 'kept'")
    running, files = kernels(host), of_kernels(host)
    (pid,) = agents(host)

    host.stop_sshd(sessions=True)  # or the next agent would be there at once
    host.run(["kill", "-KILL", str(pid)])
    eventually(lambda: not agents(host))
    allow = prevent(host)
    host.start_sshd()

    with pytest.raises(AgentError, match=words(f"cannot start the agent: .*{said}")):
        start(name)
    assert not agents(host)
    assert kernels(host) == running
    assert of_kernels(host) == files
    assert session.manager.is_alive()

    allow()
    eventually(lambda: still_has(session), 30)
    assert kernels(host) == running
    assert session.kernel.pid == running[0]
    assert start(name).value("1") == 1
