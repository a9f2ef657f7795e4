"""The launcher as one file of Python: the agent, and the secret of one launch."""

from __future__ import annotations

import base64

from ..hosts.deploy_agent import agent_archive

_LAUNCHER = """\
import base64, os, sys, tempfile
temporary = os.environ.get("TMPDIR", "/tmp")
if not os.path.isdir(temporary) or len(temporary) > 40:
    temporary = "/tmp"  # sockets live in it, whose paths have to be short
directory = tempfile.mkdtemp(prefix="remote-provisioners-", dir=temporary)
archive = os.path.join(directory, "agent.pyz")
with open(archive, "wb") as file:
    file.write(base64.b64decode({archive!r}))
sys.path.insert(0, archive)
from remote_provisioners_agent.agent.bootstrap.node_launcher import main
main(directory, {secret!r}, sys.argv[1:])
"""


def launcher_source(secret: str) -> str:
    """The text of the file. It contains a secret, so nobody else may read it."""
    archive = base64.b64encode(agent_archive()).decode()
    return _LAUNCHER.format(archive=archive, secret=secret)
