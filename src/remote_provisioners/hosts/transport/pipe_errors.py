"""Why a command on a host did not become the end of a pipe: its words, as our errors. Pure."""

from __future__ import annotations

import re

from ...errors import HostError, RunAsError, UnreachableError, UnusablePythonError
from ...placement.way_in import WayIn
from .pipe_start import NotOpened

#: Characters of a line that are shown.
_SHOWN = 150
_NO_PROGRAM = re.compile(r"not found|no such file or directory|executable file", re.IGNORECASE)
_SUDO = re.compile(r"^sudo: .*|.*is not allowed to execute.*|.*not in the sudoers file.*", re.M)

#: It is never the service account instead.
_RUN_AS = (
    "cannot run as {user} ({said}).\n"
    "Let the account that logs in do it without a password: see `run_as` in ways-in.md."
)


def why_not_opened(failed: NotOpened, way: WayIn, python: str) -> HostError:
    """The error of a command that was started on the host, or was to be."""
    said = failed.stderr or failed.stdout
    missing = failed.returncode in (126, 127) and bool(_NO_PROGRAM.search(said))
    if way.run_as:
        missing = f"{python}: command not found" in said  # sudo's words
        found = _SUDO.search(said)
        if found is not None and not missing:
            return RunAsError(_RUN_AS.format(user=way.run_as, said=found.group().strip()))
    if "SyntaxError" in said or "Unknown option: -I" in said:  # older than 3.6, 3.4
        return UnusablePythonError(
            f"{python!r} is too old: the agent needs Python 3.8 or later.\n"
            "Name another one by the option `python`."
        )
    if missing:
        return UnusablePythonError(
            f"no Python: {python!r} is not there ({last_line(said)}).\n"
            "Name one that is 3.8 or later by the option `python`."
        )
    if way.run_as and failed.returncode is not None:  # whatever `run_as_command` says
        return RunAsError(_RUN_AS.format(user=way.run_as, said=last_line(said)))
    if failed.returncode is None:
        text = f"{way}: {failed.why}"
        shown = f"It said: {last_line(said)}\n" if said else ""
        return UnreachableError(f"{text}.\n{shown}Run it in a terminal: does it reach the host?")
    ended = f"exit code {failed.returncode}"
    if failed.returncode < 0:
        ended = f"signal {-failed.returncode}"
    return UnreachableError(f"{way} ended before Python ran ({ended}): {last_line(said)}")


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_SHOWN] if lines else "it said nothing"
