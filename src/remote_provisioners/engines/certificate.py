"""The key and certificate with which this user's servers identify themselves to launchers."""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jupyter_core.paths import jupyter_data_dir


@dataclass(frozen=True)
class Identity:
    """The server's side of TLS, and the SHA-256 of its certificate in hex."""

    context: ssl.SSLContext = field(repr=False)
    fingerprint: str


def identity() -> Identity:
    """This user's identity. The first call creates it. The next server needs it, so it is kept.

    Raises OSError.
    """
    return _read(Path(jupyter_data_dir(), "remote-provisioners", "identity.pem"))


@functools.lru_cache(maxsize=1)
def _read(path: Path) -> Identity:
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent)  # 0600
        with open(descriptor, "wb") as file:
            file.write(_made())
        try:
            os.link(draft, path)  # if two servers do this at once, one of them wins
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(path)
    certificate = path.read_text("ascii").partition("-----BEGIN CERTIFICATE-----")
    der = ssl.PEM_cert_to_DER_cert("".join(certificate[1:]).strip())
    return Identity(context, hashlib.sha256(der).hexdigest())


def _made() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "remote-provisioners")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(
            now + datetime.timedelta(days=36500)
        )  # nobody checks this, because the certificate is pinned
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)
