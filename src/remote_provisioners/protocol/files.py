"""Files of a host: requests on a connection to the agent's socket for files, and their answers.

A request is a frame of wire.py, and so is its answer. READ sends the file's content between two
answers, WRITE receives it between two answers, each in chunks: four bytes of length (big-endian)
and the data; the length 0 is the end. LIST answers in several frames. The next request may follow
on the same connection. A connection is closed after an error within a content.
Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import struct
from typing import Any, Optional, Sequence

from .structure import Structure

#: The file of the socket in an agent's directory at which servers work with files.
FILE_SOCKET = "files.sock"

LIST, READ, WRITE, STAT = "list", "read", "write", "stat"
MAKE_DIRECTORY, REMOVE, RENAME, COPY = "make_directory", "remove", "rename", "copy"
TRASH = "trash"

CHUNK_BYTES = 256 * 1024
CHUNK = struct.Struct(">I")
#: Entries in one frame of an answer to LIST.
LISTED = 1000

#: Reasons for refusals. OUTSIDE: a link leads out of the directories that the server may use.
#: CHANGED: somebody else has written the file meanwhile.
NOT_FOUND, DENIED, EXISTS, OUTSIDE = "not-found", "denied", "exists", "outside"
CHANGED, NOT_EMPTY, WRONG_KIND, NO_ROOM = "changed", "not-empty", "wrong-kind", "no-room"
BAD_NAME, FAILED, READ_ONLY = "bad-name", "failed", "read-only"

#: Kinds of entries. OTHER: a device, a socket, a pipe, or a link that leads nowhere or outside.
FILE, DIRECTORY, OTHER = "file", "directory", "other"


class Entry(Structure):
    """A file or directory. Of a link: what it leads to."""

    name: str
    kind: str = FILE
    size: int = 0
    #: Nanoseconds since the epoch.
    modified: int = 0
    #: Permission bits.
    mode: int = 0
    writable: bool = False
    #: What a link says; "" if it is none.
    link: str = ""


class FileRequest(Structure):
    """What to do with one path. Unused fields keep their defaults.

    A path is relative to `root`, one of the directories `roots` of the host, which are absolute or
    below the user's home (``~``). Undecodable bytes of a name are lone surrogates
    (surrogateescape).
    """

    op: str
    roots: Sequence[str]
    root: str
    path: str = ""
    #: RENAME and COPY: the new path.
    to_root: str = ""
    to_path: str = ""
    #: Whether a link at the end of `path` is followed.
    follow: bool = True
    #: READ: where to begin.
    offset: int = 0
    #: WRITE: the time when the file was modified last, as the writer knows it; None: any.
    expected: Optional[int] = None
    #: WRITE, MAKE_DIRECTORY, RENAME, COPY: fail if the path exists.
    create: bool = False
    #: WRITE: permission bits of a new file, and its time; None: the usual ones.
    mode: Optional[int] = None
    modified: Optional[int] = None
    #: WRITE: a name for the content that is written; what an interrupted writer of the same has
    #: sent is kept, and the answer says how much that is.
    resume: str = ""
    #: REMOVE: with all that is inside. MAKE_DIRECTORY: with what is missing above.
    recursive: bool = False
    #: LIST: the greatest number of entries, in order of their names, directories first; 0: all.
    most: int = 0
    #: LIST with `most`: only names that contain this text, in any case.
    containing: str = ""
    #: LIST with `most`: also names that begin with a dot.
    hidden: bool = True


class FileAnswer(Structure):
    """An answer. `error`: one of the reasons above, with a text."""

    error: str = ""
    message: str = ""
    entry: Optional[Entry] = None
    #: The first answer to WRITE: bytes that are there already.
    offset: int = 0


class Listed(Structure):
    """Some of a directory's entries, each a list of the values of an Entry in their order."""

    entries: Sequence[Any] = ()
    more: bool = False
    #: How many entries `most` has left out.
    left_out: int = 0
