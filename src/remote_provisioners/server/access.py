"""Options of the server extension: what its users may reach on hosts besides kernels."""

from __future__ import annotations

from traitlets import Bool
from traitlets.config import Configurable


class RemoteAccess(Configurable):
    """``c.RemoteAccess.OPTION`` in the server's configuration file."""

    proxy_ports = Bool(
        True,
        help="Whether users reach web pages of their kernels' hosts through this server.",
    ).tag(config=True)
