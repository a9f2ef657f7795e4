"""The kernelspecs on Jupyter's own paths, and their files.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from ...protocol.answers import FoundKernelspec, KernelspecFiles
from .packages import names_in, read

FILE = "kernel.json"
#: Bytes of a kernelspec's files altogether. Logos and scripts have less.
MOST_BYTES = 8 * 1024 * 1024


def directories(environ: Mapping[str, str], home: str) -> List[str]:
    """Where the kernelspecs of the user and of the system are, as `jupyter --paths` says."""
    data = environ.get("XDG_DATA_HOME") or home + "/.local/share"
    found = [part for part in environ.get("JUPYTER_PATH", "").split(os.pathsep) if part]
    found.append(environ.get("JUPYTER_DATA_DIR") or data + "/jupyter")
    return [*found, home + "/.ipython", "/usr/local/share/jupyter", "/usr/share/jupyter"]


def kernelspecs_in(
    directory: str, prefix: str, environ: Mapping[str, str]
) -> Iterator[FoundKernelspec]:
    """The kernelspecs in a data directory of Jupyter. `prefix`: the one that has it."""
    for name in names_in(directory + "/kernels"):
        path = "{}/kernels/{}".format(directory, name)
        spec = _spec(path)
        if spec is not None:
            program = _program(spec["argv"][0], prefix, environ)
            yield FoundKernelspec(name=name, path=path, spec=spec, prefix=prefix, program=program)


def _spec(path: str) -> Optional[Dict[str, Any]]:
    """The content of a kernel.json; None if it is none, or its kernels run elsewhere."""
    try:
        spec = json.loads(read(os.path.join(path, FILE), MOST_BYTES))
        argv, metadata = spec["argv"], spec.get("metadata") or {}
        words = bool(argv) and all(isinstance(word, str) for word in argv)
        elsewhere = "kernel_provisioner" in metadata
        provisioner = metadata["kernel_provisioner"]["provisioner_name"] if elsewhere else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    usable = words and isinstance(argv, list) and provisioner in ("", "local-provisioner")
    return spec if usable else None


def _program(word: str, prefix: str, environ: Mapping[str, str]) -> str:
    path = environ.get("PATH", os.defpath)
    if prefix:
        path = "{}/bin{}{}".format(prefix, os.pathsep, path)
    return shutil.which(os.path.expanduser(word), path=path) or ""


def read_files(path: str) -> KernelspecFiles:
    """The files below the directory of a kernelspec or of logos, except kernel.json."""
    files: Dict[str, str] = {}
    programs: List[str] = []
    size = 0
    try:
        for name, file in _files(path):
            size += os.path.getsize(file)
            if size > MOST_BYTES:
                text = "the files in {} have more than {} MiB"
                return KernelspecFiles(error=text.format(path, MOST_BYTES // 1024**2))
            with open(file, "rb") as opened:
                files[name] = base64.b64encode(opened.read()).decode("ascii")
            if os.access(file, os.X_OK):
                programs.append(name)
    except OSError as error:
        return KernelspecFiles(error="cannot read {}: {}".format(error.filename, error.strerror))
    return KernelspecFiles(files=files, programs=programs)


def _files(path: str) -> Iterator[Tuple[str, str]]:
    for directory, inner, names in os.walk(path):
        inner[:] = sorted(name for name in inner if name != "__pycache__")
        for name in sorted(names):
            file = os.path.join(directory, name)
            there = os.path.relpath(file, path)
            if there != FILE and os.path.isfile(file):
                yield there, file
