"""Which kernels can be forked, and what the kernels of one template have in common. Pure.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import re
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence

from ...protocol.conventions import GPU_VARIABLE, PAGE_VARIABLES

_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_FLAG = re.compile(r"-([bBdEIOPqRsSu]+|[XW].+)")
_MODULES = ("ipykernel_launcher", "ipykernel")
_SCRIPT = "launch_ipykernel.py"
#: Variables of one kernel, which do not count when kernels share an environment.
_PRIVATE = re.compile(
    "|".join(["KERNEL_.*|JPY_SESSION_NAME|RP_LAUNCH_SECRET", GPU_VARIABLE, PAGE_VARIABLES])
)
#: Variables that an interpreter reads when it starts.
_EARLY = re.compile("PYTHON.*|LD_.*")


def flags_of(argv: Sequence[str]) -> Optional[List[str]]:
    """The interpreter's flags in `argv`; None if this kernel cannot be forked.

    Only commands that run ipykernel can: ``python [flags] -m ipykernel_launcher …`` or
    ``python [flags] …/launch_ipykernel.py …``.
    """
    if not _PYTHON.fullmatch(os.path.basename(argv[0])):
        return None
    flags: List[str] = []
    words = list(argv[1:])
    while words and words[0] != "-m" and words[0].startswith("-"):
        takes_word = words[0] in ("-X", "-W")
        if not takes_word and not _FLAG.fullmatch(words[0]):
            return None
        flags += words[: 1 + takes_word]
        del words[: 1 + takes_word]
    if words[:1] == ["-m"]:
        return flags if words[1:2] and words[1] in _MODULES else None
    return flags if words and os.path.basename(words[0]) == _SCRIPT else None


def shared_part(environ: Mapping[str, str], private: FrozenSet[str]) -> Dict[str, str]:
    """The variables that kernels share: without those of one kernel, and without `private`."""
    return {
        name: value
        for name, value in environ.items()
        if name not in private and not _PRIVATE.fullmatch(name)
    }


def has_own_interpreter(private: FrozenSet[str]) -> bool:
    """Whether `private` has a variable that an interpreter reads when it starts.

    `private`: the variables of the environment whose values name this kernel. Then no other
    kernel's interpreter starts in the same way.
    """
    return any(map(_EARLY.fullmatch, private))


def is_relative(path: str) -> bool:
    """Whether a PYTHONPATH means something else in another directory, as ``:/x`` does."""
    return path != "" and not all(map(os.path.isabs, path.split(os.pathsep)))
