"""Programs of this machine, run to their end within a limit."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class CommandFailed(Exception):
    """A program did not do what it was started for."""


def attempt(
    argv: Sequence[str],
    *,
    stdin: str = "",
    environ: Mapping[str, str] | None = None,
    limit: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run a program whose failure is an answer."""
    try:
        return subprocess.run(
            argv,
            input=stdin,
            env=environ,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise CommandFailed(f"{argv[0]} did not end within {limit:g} s") from late
    except OSError as error:
        raise CommandFailed(f"{argv[0]}: {error}") from error


def output(
    argv: Sequence[str], *, environ: Mapping[str, str] | None = None, limit: float = 60.0
) -> str:
    """What a program writes to standard output, or, as ``ssh -V`` does, to standard error."""
    done = attempt(argv, environ=environ, limit=limit)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise CommandFailed(f"{' '.join([Path(argv[0]).name, *argv[1:4]])}: {lines[-1]}")
    return done.stdout or done.stderr
