"""The program of a template, and its process.

Standard library only: this module travels to hosts.
"""

from __future__ import annotations

import os
import socket
import subprocess
from typing import Mapping, Sequence

#: The modules of a template's program; a later one uses the earlier ones. We only read them.
PARTS = ("template_messages", "template_files", "template_memory", "template_kernel", "template")


def spawn(
    program: Sequence[str],
    kernel_argv: Sequence[str],
    environ: Mapping[str, str],
    cwd: str,
    preload: Sequence[str],
    *,
    connection: socket.socket,
) -> subprocess.Popen[bytes]:
    """Start a template, which loads on its own, and give it `connection`. Raises OSError.

    `kernel_argv`: the first kernel's. The template's argv is made as long, so that the process
    list can show the argv of each forked kernel.
    """
    argv = [*program, "-"]
    missing = _size(kernel_argv) - _size(argv)
    with connection:
        process = subprocess.Popen(
            argv + (["-" * (missing - 1)] if missing > 0 else []),
            env=dict(environ),
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=None,  # the agent's log
            pass_fds=[connection.fileno()],
            start_new_session=True,
        )
        text = program_text(connection.fileno(), preload)
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(text.encode())
    return process


def program_text(descriptor: int, preload: Sequence[str]) -> str:
    """The program of a template: each of PARTS on one line, as one module, and a call of main."""
    lines = ["program = {'__name__': 'template'}"]
    here = os.path.dirname(__file__)
    for part in PARTS:
        path = os.path.join(here, part + ".py")
        source = __loader__.get_data(path).decode("utf-8")  # type: ignore[name-defined]
        lines.append("exec(compile({!r}, {!r}, 'exec'), program)".format(source, part))
    lines.append("program['main']({}, {!r})".format(descriptor, list(preload)))
    return "\n".join(lines) + "\n"


def _size(argv: Sequence[str]) -> int:
    """The bytes that `argv` takes in a process's memory."""
    return sum(len(os.fsencode(word)) + 1 for word in argv)
