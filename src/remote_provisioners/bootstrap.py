"""Ship the agent: its archive, and the way to find or start it on a host."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import io
import json
import zipfile

from .agent.bootstrap import MARKER
from .errors import AgentError
from .transport import Transport

_PACKAGE = "remote_provisioners_agent"
_MAIN = f"import sys\nfrom {_PACKAGE}.main import main\nmain(sys.argv[1], int(sys.argv[2]))\n"
# Must be readable by any Python, also one that is too old. The rest comes on stdin.
_COMMAND = (
    "import sys;v=sys.version_info;v<(3,8) and sys.exit('Python %d.%d is older than 3.8'%v[:2]);"
    "exec(sys.stdin.buffer.read({}))"
)


@functools.cache
def _archive() -> tuple[bytes, bytes, str]:
    """The bootstrap's text, the agent as a zip file, and the digest of both."""
    sources: dict[str, bytes] = {}
    for file in importlib.resources.files("remote_provisioners.agent").iterdir():
        if file.name.endswith(".py"):
            sources[file.name] = file.read_bytes()
    bootstrap = sources.pop("bootstrap.py")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        # Stored, with ZipInfo's fixed date: the same sources are the same archive, on every server.
        for name, content in sorted(sources.items()):
            archive.writestr(zipfile.ZipInfo(f"{_PACKAGE}/{name}"), content)
        archive.writestr(zipfile.ZipInfo("__main__.py"), _MAIN)
    packed = buffer.getvalue()
    return bootstrap, packed, hashlib.sha256(bootstrap + packed).hexdigest()


def agent_version() -> str:
    """The name of our agent's directory on every host."""
    return _archive()[2][:12]


async def find_or_start_agent(transport: Transport, python: str, host: str) -> str:
    """The path of the agent's socket on the host. Raises AgentError."""
    bootstrap, archive, digest = _archive()
    header = json.dumps({"digest": digest, "size": len(archive)}).encode() + b"\n"
    if python.startswith("~/"):
        python = "." + python[1:]  # commands are run in the home directory, and no shell helps
    command = [python, "-I", "-S", "-c", _COMMAND.format(len(bootstrap))]
    done = await transport.run(command, bootstrap + header + archive)
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith(MARKER):
            answer = json.loads(line[len(MARKER) :])
            if "error" in answer:
                raise AgentError(f"cannot start the agent: {answer['error']}", host=host)
            return str(answer["socket"])
    said = done.stderr.decode("utf-8", "replace").strip()[-1000:] or "no output"
    if done.returncode == 127:
        raise AgentError(
            f"no Python: {python!r} is not there ({said}); name one that is 3.8 or later by the "
            "option `python`",
            host=host,
        )
    raise AgentError(
        f"{python!r} cannot run the agent, which needs Python 3.8 or later "
        f"(exit code {done.returncode}): {said}",
        host=host,
    )
