"""The algorithms of a configuration that asyncssh has: OpenSSH knows some that it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from asyncssh.encryption import get_encryption_algs
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import get_certificate_algs, get_public_key_algs

from ....errors import UnreachableError

#: By asyncssh's names for the options.
_KNOWN: dict[str, Callable[[], list[bytes]]] = {
    "encryption_algs": get_encryption_algs,
    "kex_algs": get_kex_algs,
    "mac_algs": get_mac_algs,
    "server_host_key_algs": lambda: [*get_certificate_algs(), *get_public_key_algs()],
}


def usable(algorithms: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Leave out what asyncssh does not know. Raises UnreachableError if nothing is left."""
    found: dict[str, list[str]] = {}
    for option, names in algorithms.items():
        known = {name.decode("ascii") for name in _KNOWN[option]()}
        found[option] = [name for name in names if name in known]
        if not found[option]:
            raise UnreachableError(
                f"asyncssh has none of the algorithms that the SSH configuration wants:\n"
                f'{", ".join(names)}.\nSet `connect = "openssh"`.'
            )
    return found
