"""Names of files in JSON and addresses, where every name must be valid Unicode. Pure.

A byte that does not decode becomes one of 256 private characters (U+10FE00 to U+10FEFF). A name
that contains such a character itself has its bytes shown in the same way, so each name has one
form, and each form at most one name.
"""

from __future__ import annotations

import os

_FIRST = 0x10FE00
_LAST = _FIRST + 0xFF
_SURROGATES = 0xDC00


def shown(name: str) -> str:
    """A name of the host, as pages get it."""
    if name.isascii():
        return name
    return "".join(map(_shown, name))


def _shown(character: str) -> str:
    code = ord(character)
    if _SURROGATES <= code <= _SURROGATES + 0xFF:
        return chr(_FIRST + code - _SURROGATES)
    if _FIRST <= code <= _LAST:
        return "".join(chr(_FIRST + byte) for byte in character.encode())
    return character


def meant(name: str) -> str:
    """The name of the host that a page means. Raises ValueError for what `shown` never gives."""
    if name.isascii():
        return name
    raw = b"".join(
        bytes([ord(c) - _FIRST]) if _FIRST <= ord(c) <= _LAST else c.encode() for c in name
    )
    found = os.fsdecode(raw)
    if shown(found) != name:
        raise ValueError(f"no name: {name!r}")
    return found


def drive_name(host: str) -> str:
    """The name of a host's drive: JupyterLab takes what follows a colon for a path."""
    return host.replace(":", "-").replace("/", "-")
