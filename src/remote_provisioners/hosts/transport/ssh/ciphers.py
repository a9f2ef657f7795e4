"""The ciphers that a connection prefers, where the user has not chosen any.

OpenSSH and asyncssh prefer chacha20-poly1305. With a processor's AES instructions, AES-GCM needs a
third of its CPU time at both ends.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence

#: In OpenSSH's words, which asyncssh uses too.
AES = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
#: The flags of the first processor are in here; the whole file is long where there are many.
_HEAD_BYTES = 8192
_HAS_AES = re.compile(r"^(flags|Features)\s*:.*\baes\b", re.M)


@functools.cache
def has_aes() -> bool:
    """Whether this machine's processor has AES instructions."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return bool(_HAS_AES.search(file.read(_HEAD_BYTES)))
    except OSError:  # macOS, whose machines all have them
        return True


def aes_first(said: Mapping[str, Sequence[str]], default: Mapping[str, Sequence[str]]) -> str:
    """The default ciphers, AES first; "" if the user's configuration chooses ciphers. Pure.

    `said`: the output of ``ssh -G HOST``; `default`: the same without any configuration file.
    """
    ciphers = said.get("ciphers", [""])[0].split(",")
    if said.get("ciphers") != default.get("ciphers") or not set(AES) & set(ciphers):
        return ""
    return ",".join([*(c for c in AES if c in ciphers), *(c for c in ciphers if c not in AES)])
