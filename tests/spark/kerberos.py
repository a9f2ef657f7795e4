"""A YARN cluster that lets nobody in who has no ticket, on hosts of a rig."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12
from tornado.netutil import _client_ssl_defaults

from remote_provisioners.engines.yarn.resource_manager import ResourceManager
from remote_provisioners.errors import HostError

from ..conftest import eventually
from ..rig import Host
from ..rig.kdc import KEYTAB, REALM, Kdc
from .cluster import SHORT_LIVED, START_SECONDS, java_home, spark_home
from .yarn import CONF, Yarn

TLS_PORT = 8090
_PASSWORD = "of-the-tests"
#: Of all daemons of a kind. Java looks the name up, and waits for DNS if it is another.
_MANAGER, _NODE = "rm/localhost", "nm/localhost"


class SecureYarn(Yarn):
    """Kerberos and TLS wherever YARN has them; a ResourceManager on each host, of which the
    first is active and the other a standby; a NodeManager on the first.
    """

    def __init__(self, hosts: Sequence[Host], shared: Path, kdc: Kdc) -> None:
        super().__init__(hosts, shared)
        self.kdc = kdc
        self.endpoint, self.standby = (f"https://{h.address}:{TLS_PORT}" for h in hosts)
        self.authority = shared / "authority.pem"
        self.java = f"{SHORT_LIVED} -Djava.security.krb5.conf={kdc.configuration}"

    def open(self) -> None:
        addresses = [host.address for host in self.hosts]
        self.kdc.open()
        self.kdc.add_user("alice")
        self.kdc.log_in("alice")
        self.kdc.add(_MANAGER, _NODE, *(f"HTTP/{address}" for address in addresses))
        store = self._certificate()
        self._configure()
        for host in self.hosts:
            self.kdc.join(host)
            host.write(f"{CONF}/keystore", store, 0o600)
            self._start(host, "resourcemanager.ResourceManager")
        self._start(self.hosts[0], "nodemanager.NodeManager")
        eventually(lambda: all(self._listens(host) for host in self.hosts), START_SECONDS)
        self.activate(0)
        eventually(lambda: self.metrics().get("activeNodes") == 1, START_SECONDS)

    def manager(self, *endpoints: str, **how: Any) -> ResourceManager:
        """As somebody who trusts its certificate, and has the tickets of the environment."""
        return ResourceManager(endpoints or [self.endpoint], os.environ, **how)

    def _fetch(self, path: str) -> Any:
        try:
            return asyncio.run(self.manager().ask(path))
        except HostError:
            return None

    def _listens(self, host: Host) -> bool:
        return any(line.endswith(":8033") for line in host.listening())

    def activate(self, number: int) -> None:
        """Make the ResourceManager on that host the active one."""
        cache, host = "KRB5CCNAME=/tmp/admin", self.hosts[number]
        host.run(["env", cache, "kinit", "-kt", KEYTAB, _MANAGER])
        words = [f"{java_home()}/bin/java", *SHORT_LIVED.split(), "-cp"]
        words += [f"{CONF}:{spark_home()}/jars/*", "org.apache.hadoop.yarn.client.cli.RMAdminCLI"]
        host.run(
            ["env", cache, *words, "-transitionToActive", "--forceactive", f"rm{number}"],
            timeout=60,
        )

    def lose(self, number: int) -> None:
        """Kill the ResourceManager on that host."""
        host = self.hosts[number]
        daemons = [p for p in host.processes() if p.argv[-1].endswith(".ResourceManager")]
        host.run(["kill", "-KILL", *(str(process.pid) for process in daemons)])

    def _certificate(self) -> bytes:
        """A PKCS12 of the daemons' key; who is to trust it finds it in `authority`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "yarn")])
        addresses = [*(host.address for host in self.hosts), "127.0.0.1"]
        names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        now = datetime.datetime.now(datetime.timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.authority.write_bytes(certificate.public_bytes(Encoding.PEM))
        # tornado's, read once: by some versions at import, by others when it is first used.
        trusted: Any = _client_ssl_defaults
        (trusted() if callable(trusted) else trusted).load_verify_locations(self.authority)
        secret = BestAvailableEncryption(_PASSWORD.encode())
        return pkcs12.serialize_key_and_certificates(b"yarn", key, certificate, None, secret)

    def _configuration(self, host: Host) -> dict[str, Mapping[str, object]]:
        found = super()._configuration(host)
        http, manager = "hadoop.http.authentication", "yarn.resourcemanager"
        core = {
            **found["core-site"],
            "hadoop.security.authentication": "kerberos",
            f"{http}.type": "kerberos",
            f"{http}.kerberos.principal": "*",
            f"{http}.kerberos.keytab": KEYTAB,
            "hadoop.proxyuser.alice.hosts": "*",
            "hadoop.proxyuser.alice.users": "bob",
        }
        yarn: dict[str, object] = {
            **found["yarn-site"],
            "yarn.http.policy": "HTTPS_ONLY",
            "yarn.acl.enable": "true",
            "yarn.admin.acl": "rm",
            "yarn.nodemanager.principal": f"{_NODE}@{REALM}",
            "yarn.nodemanager.keytab": KEYTAB,
            f"{manager}.principal": f"{_MANAGER}@{REALM}",
            f"{manager}.keytab": KEYTAB,
            f"{manager}.ha.enabled": "true",
            f"{manager}.ha.automatic-failover.enabled": "false",
            f"{manager}.ha.rm-ids": "rm0,rm1",
            f"{manager}.cluster-id": "tests",
            # Who asks the standby waits for as long until it asks the other one.
            "yarn.client.failover-sleep-base-ms": 100,
            "yarn.client.failover-sleep-max-ms": 500,
            f"{manager}.connect.retry-interval.ms": 500,
            **{f"{manager}.hostname.rm{n}": h.address for n, h in enumerate(self.hosts)},
        }
        tls = {
            "ssl.server.keystore.location": f"{CONF}/keystore",
            "ssl.server.keystore.type": "pkcs12",
            "ssl.server.keystore.password": _PASSWORD,
            "ssl.server.keystore.keypassword": _PASSWORD,
        }
        # Who may kill: only who submitted it.
        queues = {
            **found["capacity-scheduler"],
            "yarn.scheduler.capacity.root.acl_administer_queue": " ",
        }
        sites = {"core-site": core, "yarn-site": yarn, "ssl-server": tls}
        return {**found, **sites, "capacity-scheduler": queues}
