"""The record of a kernel: what the next server must know of it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

_VERSION = 1
#: The possible operations in progress; "" is none.
_DOING = ("", "start", "stop", "restart")
#: Text fields that records of earlier versions lack.
_LATER = ("server", "ended")


class BadRecord(Exception):
    """An unusable file or directory. The message says why."""


@dataclass(frozen=True)
class Record:
    """A kernel that was left running. `info` comes from `get_provisioner_info`."""

    kernel_id: str
    kernel_name: str
    #: The root directory of its server. Kernels of other directories are not ours.
    root: str
    info: Mapping[str, Any] = field(repr=False)
    #: Its sessions, as in the sessions API: id, path, name, type.
    sessions: Sequence[Mapping[str, str]] = ()
    #: The operation in progress. The next server finishes it, or undoes a start.
    doing: str = ""
    #: The name of its server, if a hub names a user's servers: see `server_name`.
    server: str = ""
    #: Why it ended, if its server did not end it.
    ended: str = ""
    version: int = _VERSION

    @classmethod
    def parse(cls, content: bytes) -> Record:
        """Raises BadRecord."""
        try:
            found = json.loads(content)
        except ValueError:
            raise BadRecord("it is not JSON: half-written, or damaged") from None
        if not isinstance(found, dict) or found.get("version") != _VERSION:
            raise BadRecord(f"it is not a record of version {_VERSION}")
        kinds = {"kernel_id": str, "kernel_name": str, "root": str, "info": dict, "sessions": list}
        wrong = [name for name, kind in kinds.items() if not isinstance(found.get(name), kind)]
        wrong += sorted(found.keys() - kinds.keys() - {"version", "doing", *_LATER})
        wrong += [name for name in _LATER if not isinstance(found.get(name, ""), str)]
        wrong += ["doing"] if found.get("doing", "") not in _DOING else []
        if not wrong:
            info, sessions = found["info"], found["sessions"]
            wrong = [
                f"info.{name}" for name, kind in _OF_INFO.items() if not _has(info, name, kind)
            ]
            if not all(isinstance(s, dict) and _has(s, "id", str) for s in sessions):
                wrong.append("sessions")
            elif info.get("kernel_id") != found["kernel_id"]:
                wrong.append("info.kernel_id")
        if wrong:
            raise BadRecord(f"it has no usable {', '.join(wrong)}")
        return cls(**{**found, "sessions": tuple(found["sessions"])})

    def encode(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    def belongs_to(self, root: str, server: str) -> bool:
        """Whether its server had this directory or, under a hub, this name."""
        return self.server == server if self.server else self.root == root

    @property
    def origin(self) -> str:
        """Its former server, in words."""
        return f"the hub's server {self.server}" if self.server else f"a server in {self.root}"

    @property
    def file(self) -> str:
        return hashlib.sha256(self.kernel_id.encode("utf-8", "surrogateescape")).hexdigest()[:20]


_OF_INFO = {"kernel_id": str, "host": str, "host_connection": dict, "connection_info": dict}


def _has(found: Mapping[str, Any], name: str, kind: type) -> bool:
    return isinstance(found.get(name), kind)


class ProvisionerInfo(dict[str, Any]):
    """The argument of start_kernel. It contains a key and is logged there, so repr hides it."""

    def __repr__(self) -> str:
        return f"<kernel {self.get('kernel_id')}>"


#: What stays the same of a kernel's connection wherever it is started again.
_LASTING = ("key", "signature_scheme", "curve_publickey", "curve_secretkey")


def lasting(connection: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a connection that its record needs before the kernel is started again."""
    return {name: value for name, value in connection.items() if name in _LASTING}
