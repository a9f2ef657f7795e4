"""The address of a driver's engine, and whether it answers.

Standard library only, Python 3.8 or later.
"""

import os
import socket
import xml.etree.ElementTree as ET

_SECONDS = 3.0
_PREFIX = "yarn.resourcemanager"
_YARN_PORT = 8032


def addresses(master, environ):
    """The host:port pairs of `master`; empty if unknown."""
    if master.startswith("spark://"):
        return master[len("spark://") :].split(",")
    return _resource_managers(environ) if master == "yarn" else []


def silent(master, environ):
    """Why none of them accepts connections; "" if one does or if they are unknown."""
    reasons = []
    for address in addresses(master, environ):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), _SECONDS).close()
        except (OSError, ValueError) as error:
            reasons.append("{}: {}".format(address, error))
        else:
            return ""
    return "; ".join(reasons)


def _resource_managers(environ):
    directory = environ.get("YARN_CONF_DIR") or environ.get("HADOOP_CONF_DIR") or ""
    try:
        root = ET.parse(os.path.join(directory, "yarn-site.xml")).getroot()  # noqa: S314 # the site's
    except (OSError, ET.ParseError):
        return []
    rows = [(row.findtext("name") or "", row.findtext("value") or "") for row in root]
    values = {name.strip(): value.strip() for name, value in rows}
    ids = values.get(_PREFIX + ".ha.rm-ids", "")
    found = []
    for suffix in ["." + name.strip() for name in ids.split(",")] if ids else [""]:
        host = values.get(_PREFIX + ".hostname" + suffix, "")
        address = values.get(_PREFIX + ".address" + suffix) or (
            "{}:{}".format(host, _YARN_PORT) if host else ""
        )
        found += [address] if address and "$" not in address else []
    return found
