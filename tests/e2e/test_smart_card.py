"""A key on a smart card, which OpenSSH's own program uses: SoftHSM is the card."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_provisioners.errors import LoginWantedError
from remote_provisioners.io_thread import close_io_thread

from ..conftest import InstallSpec, Start, be_client, eventually
from ..rig import Host, Rig
from .test_ways_in import configured, log_in, log_out, refused, started

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "271828"


@pytest.fixture
def card(own_rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    """A host that accepts only the card's key, and a client whose logins are shared."""
    if shutil.which("pkcs11-tool") is None or not MODULE.exists():
        pytest.skip("needs softhsm2 and opensc")
    be_client(own_rig, monkeypatch)
    monkeypatch.setenv("RP_CONNECT", "openssh")
    tokens, settings = tmp_path / "tokens", tmp_path / "softhsm.conf"
    tokens.mkdir()
    settings.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(settings))
    make = ["--init-token", "--free", "--label", "card", "--pin", PIN, "--so-pin", "4321"]
    said(["softhsm2-util", *make])
    key = ["--keypairgen", "--key-type", "EC:prime256v1", "--label", "key", "--id", "01"]
    said(["pkcs11-tool", "--module", str(MODULE), "--login", "--pin", PIN, *key])
    host = own_rig.hosts[0]
    for home in host.homes.values():
        (home / ".ssh/authorized_keys").write_text(said(["ssh-keygen", "-D", str(MODULE)]))
    path = own_rig.client.config.parent / "m-%C"
    lines = f"ControlMaster auto\n    ControlPath {path}\n    ControlPersist 1h\n    "
    config = own_rig.client.config
    # The keys of a PKCS11Provider are none that IdentitiesOnly allows.
    kept = [
        line
        for line in config.read_text().splitlines()
        if not line.endswith(("Mode yes", "Only yes"))
    ]
    config.write_text("\n".join(kept) + "\n")
    with configured(own_rig, f"{lines}PKCS11Provider {MODULE}"):
        yield host
        close_io_thread()  # it says good-bye to the agent, over that connection
        log_out(own_rig, host)


def said(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout


@pytest.mark.long
def test_the_pin_is_asked_once(card: Host, install_spec: InstallSpec, start: Start) -> None:
    name = install_spec(card.target)
    text = refused(start, name, LoginWantedError)
    assert "the smart card asks for its PIN" in text
    assert f"jupyter remote login {card.target}" in text
    status, shown = log_in(card, PIN, b"Enter PIN for ")
    assert status == 0, shown
    session = eventually(lambda: started(start, name), 10)
    assert session.value("6 * 7") == 42
