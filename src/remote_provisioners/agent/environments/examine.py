"""What `jupyter remote doctor` asks a host: its kernel interpreter and a package's version there.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Mapping

from .. import apart
from ..kernels.environment import CommandError, resolve_command
from ..processes.programs import finished

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
        where = ", ".join(filter(None, [python or "python3", "PATH"]))
        (program,) = await apart.run(where, lambda: resolve_command(["python"], python, environ))
    except (CommandError, OSError) as error:
        return {"error": str(error)}
    try:
        done = await finished([program, "-c", _QUESTION, package], _SECONDS, environ)
    except OSError as error:
        return {"error": "{} cannot be run: {}".format(program, error.strerror)}
    if done is None:
        return {"error": "{} did not answer within {} s".format(program, _SECONDS)}
    try:
        answer: Dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"error": "{}: {}".format(program, done.stderr.decode("utf-8", "replace")[-500:])}
    return {"program": program, **answer}
