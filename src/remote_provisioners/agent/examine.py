"""What `jupyter remote doctor` asks a host: its kernel interpreter and a package's version there.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Dict, Mapping

from .kernels.environment import CommandError, resolve_command

_SECONDS = 20
_QUESTION = """
import json, sys
try:
    from importlib.metadata import version
    package = version(sys.argv[1])
except Exception:
    package = None
print(json.dumps({"version": "%d.%d.%d" % sys.version_info[:3], "package": package}))
"""


async def examine(python: str, package: str, environ: Mapping[str, str]) -> Dict[str, Any]:
    """The ``program`` that `python` stands for here, its ``version`` and the ``package``'s
    version; or an ``error``.
    """
    try:
        (program,) = resolve_command(["python"], python, environ)
    except CommandError as error:
        return {"error": str(error)}
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "-c",
            _QUESTION,
            package,
            env=dict(environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        return {"error": "{} cannot be run: {}".format(program, error.strerror)}
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), _SECONDS)
        answer: Dict[str, Any] = json.loads(stdout)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
        return {"error": "{} did not answer within {} s".format(program, _SECONDS)}
    except ValueError:
        return {"error": "{}: {}".format(program, stderr.decode("utf-8", "replace")[-500:])}
    return {"program": program, **answer}
