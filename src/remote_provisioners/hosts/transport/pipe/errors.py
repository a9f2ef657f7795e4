"""Why a command on a host did not become the end of a pipe: turns its output into errors. Pure."""

from __future__ import annotations

import itertools
import re
import textwrap
from dataclasses import replace

from ....errors import HostError, RunAsError, UnreachableError, UnusablePythonError
from ....placement.way_in import ASYNCSSH, AUTOMATIC, COMMAND, WayIn
from .start import NotOpened

#: How many characters of a single line are shown.
_SHOWN = 150
#: Width and number of several lines that are shown together.
_WIDTH, _MOST_LINES = 90, 8
_NO_PROGRAM = re.compile(r"not found|no such file or directory|executable file", re.IGNORECASE)
#: The messages of Python 3.4 and 3.5, of 2.7, and our own.
_TOO_OLD = re.compile(r"SyntaxError|Unknown option: -I|is older than 3\.8")
#: The ssh program's words, alone and with ControlMaster, for a session that sshd does not open.
_NO_SESSION = re.compile(r"open failed: connect failed: open failed|Session open refused by peer")
_SUDO = re.compile(r"^sudo: .*|.*is not allowed to execute.*|.*not in the sudoers file.*", re.M)

#: We never run as the service account instead.
_RUN_AS = (
    "cannot run as {user} ({said}).\n"
    "Let the account that logs in do it without a password: `run_as` in docs/ways-in.md."
)


_BY_COMMAND = (
    "cannot run as {user}{by} ({said}).\nDoes the command run a program there? "
    "May its account become {user} without\na password (`run_as` in docs/ways-in.md)?"
)
_OF_COMMANDS = (
    "Try it in a terminal: does the command run a program there, without input from you\n"
    "and without a terminal (`-t`)?"
)
_OF_SHELLS = (
    "Does a start-up file of the login shell wait for input, or start another shell?\n"
    "Try it in a terminal: does the same command run there?"
)
_OF_ACCOUNTS = (
    "May this account run programs there? Its shell or sshd's ForceCommand may forbid it."
)


def no_session(said: str) -> UnreachableError:
    """The error for an sshd that lets us in and opens no session for a command."""
    return UnreachableError(
        f"sshd opens no session ({said}).\n"
        "It needs `MaxSessions 10`, the default, in the host's sshd_config"
    )


def why_not_opened(failed: NotOpened, way: WayIn, python: str) -> HostError:
    """The error for a command that did not start on the host, or that ended too early."""
    said = failed.stderr or failed.stdout
    missing = failed.returncode in (126, 127) and bool(_NO_PROGRAM.search(said))
    if way.run_as:
        missing = f"{python}: command not found" in said  # sudo's words
        found = _SUDO.search(said)
        if found is not None and not missing:
            return RunAsError(_RUN_AS.format(user=way.run_as, said=found.group().strip()))
    by = "" if way.kind in (AUTOMATIC, ASYNCSSH) else f" by {way}"
    if _TOO_OLD.search(said):
        return UnusablePythonError(
            f"{python!r}{by} is too old: the agent needs Python 3.8 or later.\n"
            "Set the option `python` to another one."
        )
    if missing:
        return UnusablePythonError(
            f"no Python{by}: {python!r} is not there ({last_line(said)}).\n"
            "Set the option `python` to one that is 3.8 or later."
        )
    refused = _NO_SESSION.search(failed.stderr)
    if refused is not None and way.kind != COMMAND:
        return no_session(refused.group())
    if way.run_as and failed.returncode is not None:  # any other output of `run_as_command`
        if way.kind == COMMAND:
            by = f" by {replace(way, run_as='')}"
            return RunAsError(_BY_COMMAND.format(user=way.run_as, by=by, said=last_line(said)))
        return RunAsError(_RUN_AS.format(user=way.run_as, said=last_line(said)))
    advice = _OF_COMMANDS if way.kind == COMMAND else _OF_SHELLS
    if failed.returncode is None:
        return UnreachableError(
            f"{_said_first(failed)}Python did not begin to run{by}: {failed.why}.\n{advice}"
        )
    ended = f"exit code {failed.returncode}"
    if failed.returncode < 0:
        ended = f"signal {-failed.returncode}"
    what = way if way.kind == COMMAND else f"the command{by}"
    if way.kind != COMMAND:
        advice = _OF_ACCOUNTS
    return UnreachableError(
        f"{_said_first(failed)}{what} ended before Python ran ({ended}).\n{advice}"
    )


def _said_first(failed: NotOpened) -> str:
    """The other side's own text, on lines before ours."""
    said = last_lines(f"{failed.stdout}\n{failed.stderr}")
    return f"it says: {said}\n" if said else ""


def last_lines(text: str, count: int = 5) -> str:
    """The last lines that are not empty, at most `count`; "" if there are none.

    A line that is repeated counts once.
    """
    stripped = (line.strip() for line in text.splitlines())
    lines = [line for line, _ in itertools.groupby(line for line in stripped if line)]
    shown = [part for line in lines[-count:] for part in textwrap.wrap(line, _WIDTH)]
    return "\n".join(shown[:_MOST_LINES])


def last_line(text: str) -> str:
    """The last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_SHOWN] if lines else "it said nothing"
