"""A host that is logged in to by Kerberos (GSSAPI)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import InstallSpec, Start, be_client
from ..rig import Rig, kdc, open_rig
from ..spark.requirements import need


@pytest.fixture
def kerberos_rig() -> Iterator[Rig]:
    opened = open_rig(1)
    need("" if opened.own_address else "needs root and network namespaces: a host's own krb5.conf")
    with opened:
        yield opened


def test_a_ticket_in_place_of_a_key(
    kerberos_rig: Rig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    install_spec: InstallSpec,
    start: Start,
) -> None:
    need(kdc.unavailable())
    be_client(kerberos_rig, monkeypatch)
    (host,) = kerberos_rig.hosts
    tickets = kdc.Kdc(host, tmp_path)
    tickets.open()
    tickets.add(f"host/{host.address}")
    tickets.join(host)
    tickets.add_user("alice")
    host.sshd_option(GSSAPIAuthentication="yes", GSSAPIStrictAcceptorCheck="no")
    host.refuse_keys()
    config = kerberos_rig.home / ".ssh/config"
    config.write_text(f"GSSAPIAuthentication yes\n{config.read_text()}")
    for name, value in tickets.log_in("alice").items():
        monkeypatch.setenv(name, value)
    session = start(install_spec([f"alice@{host.target}"]))
    assert "uid=20001(alice)" in session.run("!id")
