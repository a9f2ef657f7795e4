"""Options of the server extension: what its users may reach on hosts besides kernels."""

from __future__ import annotations

from traitlets import Bool, List, Unicode
from traitlets.config import Configurable


class RemoteAccess(Configurable):
    """``c.RemoteAccess.OPTION`` in the server's configuration file."""

    proxy_ports = Bool(
        True,
        help="Whether users reach web pages of their kernels' hosts through this server.",
    ).tag(config=True)

    file_roots = List(
        Unicode(),
        ["~"],
        help="The directories of hosts whose files users reach through this server, absolute or "
        "below a user's home there. Links that lead out of them are refused. Empty: no files.",
    ).tag(config=True)
