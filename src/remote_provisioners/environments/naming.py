"""Names and titles of environments' kernelspecs. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from ..errors import ConfigurationError
from ..placement.host_address import parse_address

#: Titles name at most this many hosts: the launcher has room for about thirty characters.
_NAMED_HOSTS = 2
GONE = " (gone)"


def kernelspec_name(environment: str, hosts: Sequence[str], taken: Collection[str]) -> str:
    """A name for a new kernelspec: torch-gpu1; remote-torch if there are several hosts."""
    base = f"{environment}-{short(hosts[0])}" if len(hosts) == 1 else f"remote-{environment}"
    base = re.sub(r"[^a-z0-9._]+", "-", base.lower()).strip("-.") or "remote"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def title(environment: str, hosts: Sequence[str], taken: Collection[str]) -> str:
    """The title in a launcher: ``Python 3.12 (torch) · gpu1``."""
    if len(hosts) > _NAMED_HOSTS:
        return f"{environment} · {len(hosts)} hosts"
    shown = f"{environment} · {', '.join(map(short, hosts))}"
    return shown if shown not in taken else f"{environment} · {', '.join(hosts)}"


def short(host: str) -> str:
    """A host's name without user, port and domain."""
    try:
        name = parse_address(host).host
    except ConfigurationError:
        return host
    return name if re.fullmatch(r"[\d.]+|.*:.*", name) else name.partition(".")[0]
