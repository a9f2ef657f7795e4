"""The template of the first kernel: it loads while Python imports the agent's other modules.

A server (bootstrap/find_or_start.py) or the script of a job starts an agent for a kernel. It first
writes into a file what that kernel will be. Standard library only: this module travels to hosts.
It imports little, because the agent's other modules wait for it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from typing import Any, Dict, List, Optional

from ..channels.endpoints import connection_file
from ..kernels.environment import (
    CommandError,
    kernel_environment,
    resolve_command,
    session_free,
    substitute,
)
from ..processes.orphans import adopt_orphans
from .forkable import flags_of, is_relative, shared_part
from .template_program import spawn

#: Files in the agent's directory: the kernel; the template that bootstrap/head_start.py has loaded.
EXPECTED, TEMPLATE = "expected.json", "template.json"
#: How long the agent waits for files, which may hang.
_SECONDS = 0.5


def reset_signals() -> None:
    """Stop ignoring what the login ignores (nohup): the template and its kernels inherit that."""
    for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)


def load(directory: str) -> Optional[Dict[str, Any]]:
    """Begin to load the template, unless one is loaded. Returns what Templates.take needs; None if
    no kernel is expected, or if the files take too long.
    """
    begun: List[Dict[str, Any]] = []
    late, deciding = threading.Event(), threading.Lock()

    def begin() -> None:
        try:
            template = _handed(directory) or _begin(directory, late)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, CommandError) as error:
            print("no first template: {}".format(error), file=sys.stderr, flush=True)
            return
        with deciding:
            if template is not None and late.is_set():
                os.close(template["descriptor"])  # nobody will take the template: it ends
            elif template is not None:
                begun.append(template)

    thread = threading.Thread(target=begin, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # the user may start no more threads
        print("no first template: {}".format(error), file=sys.stderr, flush=True)
        return None
    thread.join(_SECONDS)
    with deciding:
        late.set()
    return begun[0] if begun else None


def _handed(directory: str) -> Optional[Dict[str, Any]]:
    """The template that is a child of ours already. Raises OSError, ValueError, KeyError."""
    path = os.path.join(directory, TEMPLATE)
    if not os.path.exists(path):
        return None
    handed: Dict[str, Any] = _taken(path)
    return handed if handed["agent"] == os.getpid() else None


def _begin(directory: str, late: threading.Event) -> Optional[Dict[str, Any]]:
    """Start the template, unless it is too late. Raises OSError, ValueError, KeyError,
    CommandError.
    """
    expected = _taken(os.path.join(directory, EXPECTED))
    kernels = kernel_environment(session_free(os.environ), expected["env"], {})
    environ = shared_part(kernels, frozenset())
    # This path has the same length as the first kernel's.
    values = {"connection_file": connection_file(os.path.join(directory, "k", "0" * 10))}
    argv = resolve_command(expected["argv"], expected["python"], environ)
    argv = [substitute(word, values) for word in argv]
    flags = flags_of(argv)
    if flags is None or is_relative(environ.get("PYTHONPATH", "")):
        return None
    if late.is_set() or not adopt_orphans():
        return None
    program, preload = [argv[0], *flags], expected.get("preload", [])
    ours, theirs = socket.socketpair()
    process = spawn(program, argv, environ, "/", preload, connection=theirs)
    process.returncode = 0  # Template reaps it, not subprocess
    begun = {"program": program, "environ": environ, "preload": preload, "pid": process.pid}
    return {**begun, "descriptor": ours.detach()}


def _taken(path: str) -> Any:
    """The file's content. Removes the file: the next agent must not find it. Raises OSError,
    ValueError.
    """
    with open(path) as file:
        content = json.load(file)
    os.unlink(path)
    return content
