"""The file that a kernel's process prints to: bounded, and read on from where a reader was.

A position counts all bytes that the process has ever printed. The note at the beginning of a
trimmed file says how many of them are gone. Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import codecs
import os
import re
from typing import BinaryIO, Tuple

#: How long a file may become. Trimming keeps the last half of that.
LOG_LIMIT = 1024 * 1024
_LINE_BYTES = 4096
_NOTE = "[{} bytes of earlier output dropped]\n"
_NOTED = re.compile(rb"\[(\d{1,18}) bytes of earlier output dropped\]\n")


def read_on(path: str, after: int = 0, ended: bool = True) -> Tuple[str, int]:
    """What the file has after a position, and the position of its end.

    Unless the process has `ended`, half a character at the end waits for its other half.
    """
    try:
        with open(path, "rb") as log:
            noted, dropped = _dropped(log)
            size = os.fstat(log.fileno()).st_size
            # All of it, if the text after that position is gone or the file is another one.
            known = dropped <= after <= dropped + size - noted
            start = noted + after - dropped if known else 0
            log.seek(start)
            data = log.read(2 * LOG_LIMIT)
    except OSError:
        return "", after
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data, ended)
    half, _ = decoder.getstate()
    return text, dropped + start + len(data) - len(half) - noted


def trim(path: str) -> None:
    """Keep a file within LOG_LIMIT that a process appends to (it goes on at the new end)."""
    try:
        with open(path, "r+b", buffering=0) as log:
            size = os.fstat(log.fileno()).st_size
            if size <= LOG_LIMIT:
                return
            noted, dropped = _dropped(log)
            log.seek(size - LOG_LIMIT // 2)
            kept = log.read()
            size = log.tell()
            kept = kept[kept.find(b"\n", 0, _LINE_BYTES) + 1 :]
            dropped += size - len(kept) - noted
            text = _NOTE.format(dropped).encode() + kept
            log.seek(0)
            log.write(text)  # in place: it needs no room on a full disk
            log.seek(size)
            printed_meanwhile = log.read()
            log.seek(len(text))
            log.write(printed_meanwhile)
            log.truncate()
    except OSError:
        pass  # deleted, or the file system fails


def _dropped(log: BinaryIO) -> Tuple[int, int]:
    """The length of the note at the beginning of a file, and how many bytes it says are gone."""
    log.seek(0)
    found = _NOTED.match(log.read(len(_NOTE) + 18))
    return (found.end(), int(found[1])) if found else (0, 0)
