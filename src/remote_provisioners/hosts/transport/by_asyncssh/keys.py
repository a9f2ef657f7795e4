"""The user's keys and hosts' keys, in OpenSSH's order and by OpenSSH's rules."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncssh
from asyncssh.known_hosts import SSHKnownHosts

from ...keys import tried
from ..ssh.configuration import SSH_PORT, SSHConfiguration

_CERTIFICATE = "-cert"
#: How long the SSH agent may take. An agent behind a lost connection never answers.
_AGENT_SECONDS = 5.0

#: asyncssh's option for the algorithms of host keys.
_HOST_KEYS = "server_host_key_algs"

log = logging.getLogger(__name__)

#: What asyncssh asks for about a host: keys, authorities, revoked keys, and four X.509 lists.
HostKeys = tuple[Sequence[Any], ...]


class KnownHosts:
    """The keys of hosts in the known_hosts files of a configuration. A line that cannot be read
    is ignored, as OpenSSH does.
    """

    def __init__(self, configuration: SSHConfiguration) -> None:
        """Reads files. Raises OSError or ValueError when revoked keys cannot be read."""
        self._configuration = configuration
        self._known = SSHKnownHosts()
        self.files = [path for path in configuration.known_hosts if Path(path).is_file()]
        for path in self.files:
            with contextlib.suppress(OSError):
                for line in Path(path).read_text("utf-8", "replace").splitlines():
                    with contextlib.suppress(ValueError):
                        self._known.load(line)
        revoked = configuration.revoked_host_keys
        self._revoked = asyncssh.read_public_key_list(revoked) if revoked else []

    def keys(self) -> HostKeys:
        """The keys, authorities and revoked keys of the host, found by its alias or else by its
        name and port. Entries for its address are ignored (``CheckHostIP no``, OpenSSH's default).
        """
        configuration = self._configuration
        if configuration.host_key_alias:
            name, port = configuration.host_key_alias, None
        else:
            name = configuration.host.lower()
            port = configuration.port if configuration.port != SSH_PORT else None
        keys, authorities, revoked, *x509 = self._known.match(name, "", port)
        return (keys, authorities, [*revoked, *self._revoked], *x509)

    def first(self, algorithms: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """The user's algorithms for host keys, if any, those of known keys first: a host shows
        one key only, of the first algorithm that it has too.
        """
        keys, authorities, *_ = self.keys()
        known = {name.decode("ascii") for key in keys for name in key.sig_algorithms}

        def unknown(name: str) -> bool:
            return not authorities if _CERTIFICATE in name else name not in known

        names = algorithms.get(_HOST_KEYS)
        return {_HOST_KEYS: sorted(names, key=unknown)} if names else {}

    def match(self, _host: str, _address: str, _port: int | None) -> HostKeys:
        """The signature that asyncssh calls."""
        return self.keys()


@contextlib.asynccontextmanager
async def usable_keys(read: SSHConfiguration) -> AsyncIterator[list[asyncssh.SSHKeyPair]]:
    """The keys to log in with. The SSH agent stays connected inside this context, to sign.

    As OpenSSH, it goes on without an agent that does not answer.
    """
    agent = None
    if read.agent:
        with contextlib.suppress(OSError, asyncssh.Error, asyncio.TimeoutError):
            agent = await asyncio.wait_for(asyncssh.connect_agent(read.agent), _AGENT_SECONDS)
    try:
        yield await _key_pairs(read, agent)
    finally:
        if agent is not None:
            agent.close()


async def _key_pairs(
    configuration: SSHConfiguration, agent: asyncssh.SSHAgentClient | None
) -> list[asyncssh.SSHKeyPair]:
    """The keys to log in with, in this order: configured keys that the SSH agent holds, its other
    keys (unless ``IdentitiesOnly``), keys in files. A file that is missing, encrypted or cannot
    be read is skipped.
    """
    held = await _held(agent) if agent is not None else []
    tried([*configuration.identity_files, *_certificate_files(configuration)], configuration.agent)
    files = await asyncio.to_thread(_read_files, configuration)
    certificates = await asyncio.to_thread(_read_certificates, configuration)
    chosen: list[asyncssh.SSHKeyPair] = []
    for blob, _ in files:
        chosen += [pair for pair in held if pair.public_data == blob and pair not in chosen]
    if not configuration.identities_only:
        chosen += [pair for pair in held if pair not in chosen]
    known = {pair.public_data for pair in chosen}
    chosen += [make() for blob, make in files if make is not None and blob not in known]
    return _certified(chosen, certificates)


async def _held(agent: asyncssh.SSHAgentClient) -> list[asyncssh.SSHKeyPair]:
    """The keys that the SSH agent holds; none if it does not answer."""
    try:
        return list(await asyncio.wait_for(agent.get_keys(), _AGENT_SECONDS))
    except asyncio.TimeoutError:
        log.warning("the SSH agent does not answer: its keys are not used")
    except (OSError, ValueError, asyncssh.Error) as error:
        log.warning("the SSH agent's keys are not used: %s", error)
    return []


#: The public part of a key, and a function that loads the private part if the file has it.
_File = tuple[bytes, Callable[[], asyncssh.SSHKeyPair] | None]


def _read_files(configuration: SSHConfiguration) -> list[_File]:
    return [found for path in configuration.identity_files if (found := _read_file(Path(path)))]


def _read_file(path: Path) -> _File | None:
    """An ``IdentityFile``: a private key, or a public one whose private part an agent holds."""
    with contextlib.suppress(OSError, ValueError):
        key = asyncssh.read_private_key(path)
        return key.public_data, lambda: asyncssh.load_keypairs(key)[0]
    for public in (path, path.with_name(path.name + ".pub")):
        with contextlib.suppress(OSError, ValueError):
            return asyncssh.read_public_key(public).public_data, None
    return None


def _certificate_files(configuration: SSHConfiguration) -> list[str]:
    names = [path.removesuffix(".pub") for path in configuration.identity_files]
    return [*configuration.certificate_files, *(f"{name}{_CERTIFICATE}.pub" for name in names)]


def _read_certificates(configuration: SSHConfiguration) -> list[asyncssh.SSHCertificate]:
    paths = _certificate_files(configuration)
    found = []
    for path in dict.fromkeys(paths):
        with contextlib.suppress(OSError, ValueError):
            found.append(asyncssh.read_certificate(path))
    return found


def _certified(
    pairs: Sequence[asyncssh.SSHKeyPair], certificates: Sequence[asyncssh.SSHCertificate]
) -> list[asyncssh.SSHKeyPair]:
    """Add certificates: each key comes first with its certificates, then alone."""
    result = []
    for pair in pairs:
        for certificate in certificates:
            if certificate.key.public_data == pair.public_data:
                certified = copy.copy(pair)
                certified.set_certificate(certificate)
                result.append(certified)
        result.append(pair)
    return result
