"""The contract suites run over every way in: this machine, and hosts by each of the others."""

import os
from collections.abc import Iterator

import pytest

from ..rig import Rig

#: For the transports themselves; a host whose sshd forwards nothing differs in nothing above them.
TRANSPORTS = ["localhost", "asyncssh", "openssh", "command", "asyncssh-no-forwarding"]
#: A node behind a host by each of them, with what its own program leads to: the same host.
INNER = [
    pytest.param(f"inner {way}", marks=[] if way == "openssh" else [pytest.mark.long])
    for way in ("localhost", "asyncssh", "openssh", "asyncssh-no-forwarding")
]
#: A command of one's own differs from OpenSSH's in its words only: test_ways_in has it as well.
WAYS = [
    "localhost",
    "asyncssh",
    *(pytest.param(way, marks=pytest.mark.long) for way in ("openssh", "command")),
]
#: Files and ports have sockets of their own, which sshd may refuse to forward.
MORE_SOCKETS = ("test_files", "test_ports")
#: Tests that show a whole life also over OpenSSH in `make test`.
ON_OPENSSH = ("test_a_kernel_through_its_life",)


@pytest.fixture
def host(
    request: pytest.FixtureRequest, rig: Rig, home: object, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A host as it is written in remote_hosts; RP_CONNECT says how it is reached. One behind it
    is written after "inner".
    """
    inner, _, way = request.param.rpartition(" ")
    for name in _host(way, rig, monkeypatch):
        yield f"{inner} {name}".strip()


def _host(way: str, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if way == "localhost":
        yield "localhost"
    elif way == "command":
        login = [f"{name}={os.environ[name]}" for name in ("HOME", "PATH", "TMPDIR")]
        words = ", ".join(f'"{word}"' for word in ("env", "-i", *login))
        monkeypatch.setenv("RP_CONNECT", f"[{words}]")
        yield "this-machine"
    elif way == "openssh":
        monkeypatch.setenv("RP_CONNECT", "openssh")
        yield rig.hosts[0].target
    else:
        monkeypatch.setenv("RP_CONNECT", "asyncssh")
        if way == "asyncssh":
            yield rig.hosts[0].target
            return
        closed = rig.hosts[1]
        closed.sshd_option(DisableForwarding="yes")
        yield closed.target
        closed.sshd_option(DisableForwarding=None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" in metafunc.fixturenames:
        on_transports = metafunc.module.__name__.endswith("test_transport")
        transports = [*TRANSPORTS, *INNER]
        ways = [*WAYS[:2], "openssh", WAYS[3]] if metafunc.function.__name__ in ON_OPENSSH else WAYS
        if metafunc.module.__name__.endswith(MORE_SOCKETS):
            ways = [*ways, pytest.param("asyncssh-no-forwarding", marks=pytest.mark.long)]
        metafunc.parametrize("host", transports if on_transports else ways, indirect=True)
