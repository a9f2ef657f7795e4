"""A KDC on a host: MIT Kerberos, as Debian has it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from .host import Host, wait_until

REALM = "RP.TEST"
_DIRECTORY = "/tmp/krb5"
KEYTAB = f"{_DIRECTORY}/keytab"
_CONFIGURATION = f"{_DIRECTORY}/krb5.conf"
_PORT = 88
_PASSWORD = "of-the-tests"
_CLIENT = """\
[libdefaults]
default_realm = {realm}
default_keytab_name = {keytab}
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
[realms]
{realm} = {{
    kdc = {address}
}}
"""
_SERVER = f"""\
[realms]
{REALM} = {{
    database_name = {_DIRECTORY}/principal
    key_stash_file = {_DIRECTORY}/stash
    kdc_listen = {_PORT}
    kdc_tcp_listen = {_PORT}
}}
"""


def unavailable() -> str:
    """Why this machine cannot have a KDC and speak to it; empty if it can."""
    if shutil.which("krb5kdc", path="/usr/sbin:" + os.environ["PATH"]) is None:
        return "no KDC (on Debian: krb5-kdc)"
    if shutil.which("kinit") is None:
        return "no kinit (on Debian: krb5-user)"
    if importlib.util.find_spec("gssapi") is None:
        return "the package gssapi is not installed (on Debian it needs libkrb5-dev)"
    return ""


class Kdc:
    """On a host, its database in the host's /tmp."""

    def __init__(self, host: Host, shared: Path) -> None:
        """`shared` gets krb5.conf and the users' tickets."""
        self.host = host
        self.configuration = shared / "krb5.conf"
        self._shared = shared
        self._environ = {
            "KRB5_CONFIG": _CONFIGURATION,
            "KRB5_KDC_PROFILE": f"{_DIRECTORY}/kdc.conf",
            "PATH": "/usr/sbin:/usr/bin:/bin",
        }

    def open(self) -> None:
        text = _CLIENT.format(realm=REALM, keytab=KEYTAB, address=self.host.address)
        self.configuration.write_text(text)
        self.host.write(_CONFIGURATION, text)
        self.host.write(f"{_DIRECTORY}/kdc.conf", _SERVER)
        self._run("kdb5_util", "create", "-s", "-r", REALM, "-P", _PASSWORD)
        self._run("krb5kdc")
        wait_until(lambda: f"0.0.0.0:{_PORT}" in self.host.listening())

    def add(self, *principals: str) -> None:
        """With their keys in the keytab of the daemons, also anew."""
        for name in principals:
            self._run("kadmin.local", "-r", REALM, "addprinc", "-randkey", name)
            self._run("kadmin.local", "-r", REALM, "ktadd", "-k", KEYTAB, name)

    def add_user(self, name: str) -> None:
        self._run("kadmin.local", "-r", REALM, "addprinc", "-pw", _PASSWORD, name)

    def add_unknown(self, principal: str) -> None:
        """One whose key no daemon has."""
        self._run("kadmin.local", "-r", REALM, "addprinc", "-randkey", principal)

    def join(self, host: Host) -> None:
        """Let daemons on that host have their keys."""
        if host is not self.host:
            host.write(_CONFIGURATION, self.configuration.read_text())
            keys = self.host.run(["od", "-An", "-v", "-tx1", KEYTAB])
            host.write(KEYTAB, bytes.fromhex("".join(keys.split())), 0o600)
        host.run(["mount", "--bind", _CONFIGURATION, "/etc/krb5.conf"])

    def log_in(self, name: str, *options: str, cache: str = "") -> dict[str, str]:
        """What the environment of somebody with a ticket has; `options` are kinit's."""
        environ = self.environ(cache or name)
        subprocess.run(
            ["kinit", *options, name],
            env={**os.environ, **environ},
            input=_PASSWORD + "\n",
            text=True,
            check=True,
            capture_output=True,
        )
        return environ

    def environ(self, cache: str) -> dict[str, str]:
        """That of somebody who has not logged in yet."""
        file = self._shared / f"{cache}.tickets"
        return {"KRB5_CONFIG": str(self.configuration), "KRB5CCNAME": f"FILE:{file}"}

    def signal(self, name: str) -> None:
        """STOP: it answers nobody; CONT."""
        pids = [str(p.pid) for p in self.host.processes() if "krb5kdc" in p.argv]
        self.host.run(["kill", f"-{name}", *pids])

    def _run(self, *argv: str) -> None:
        self.host.run(["env", *(f"{k}={v}" for k, v in self._environ.items()), *argv])
