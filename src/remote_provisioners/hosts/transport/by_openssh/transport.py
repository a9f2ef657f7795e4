"""A host by OpenSSH's own client: one ssh process and one connection per host.

All of ~/.ssh/config applies, as in a terminal. The program asks no questions: nobody would see
them. Its `-v` output shows how far it came, and why it stopped.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import replace

from ....errors import (
    AuthenticationError,
    HostError,
    HostKeyError,
    LoginWantedError,
    UnknownHostError,
    UnreachableError,
)
from ....placement.host_address import HostAddress
from ....placement.way_in import DEFAULT_WAY
from ...keys import tried
from ..by_asyncssh.jumps import refuse_circle
from ..command import login_python
from ..pipe.errors import last_line, last_lines, why_not_opened
from ..pipe.process import ProcessCarrier
from ..pipe.start import Introduction, NotOpened, PipeStart
from ..pipe.transport import PipeTransport
from ..ssh import login_errors
from ..ssh.ciphers import aes_first, has_aes
from ..ssh.command import shell_command
from ..ssh.login_errors import (
    Phase,
    authority_unknown,
    certificate_invalid,
    key_changed,
    key_revoked,
    key_unknown,
    name_unknown,
    no_key_accepted,
    not_forwarded,
    port_refused,
    proxy_said,
    what_is_late,
)
from ..ssh.reading import (
    Values,
    ask_openssh,
    configuration_files,
    environment,
    host_words,
    options_without_terminal,
)
from . import master

PROGRAM = "ssh"
Asked = tuple[Values, Values]

log = logging.getLogger(__name__)

#: How long the program may take to say which ciphers the user wants.
_ASK_SECONDS = 1.0

_OPTIONS = {
    "BatchMode": "yes",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    # A configuration for terminals may set these; they would end or block this connection.
    "ClearAllForwardings": "yes",
    # The user's terminals must not share this connection: they would end with it.
    "ControlMaster": "no",
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",
}
_LOGGED_IN = re.compile(r"^(?:Authenticated to .*|debug1: mux_client_request_session.*)", re.M)
#: What the program prints when it reaches a phase; the last one first.
_PHASES = {
    Phase.KEYS_EXCHANGED: re.compile(r"^debug1: SSH2_MSG_NEWKEYS received", re.M),
    Phase.ANSWERED: re.compile(r"^debug1: Remote protocol version", re.M),
    Phase.CONNECTED: re.compile(
        r"^debug1: (Connection established|fd \d+ clearing O_NONBLOCK)", re.M
    ),
}
_PROXIED = re.compile(r"^debug1: (Executing proxy command|Setting implicit ProxyCommand)", re.M)
#: The program ssh makes a connection of its own.
_OWN = re.compile(rf"^debug1: Connecting to |{_PROXIED.pattern}", re.M)
#: One for each program behind a proxy: ours, and those of ProxyJump, which print `-v` output too.
_PROXY = re.compile(r"^debug1: Executing proxy command", re.M)
_BY_PROXY = re.compile(r"^Authenticated to .* \(via proxy\)", re.M)
#: "debug1: identity file /home/ann/key type 3"
_KEY_FILE = re.compile(r"^debug1: identity file (.+) type -?\d+", re.M)
#: A PKCS11Provider that would show its keys only after a PIN.
_PIN = re.compile(r"^pin required", re.M)
_KEY_METHODS = {"publickey", "gssapi-with-mic", "hostbased"}
#: The output that only `-v` adds.
_DEBUG = re.compile(r"debug\d: [^\n]*(?:\n|$)")
_VERBOSE = re.compile(
    r"^(debug\d: |OpenSSH_|Authenticated |Transferred: |Bytes per second: |Warning: Permanently)"
)

#: The program's own messages when a login fails.
_OF_SSH = re.compile(
    r".*Permission denied \(|Connection (closed|reset)|Received disconnect|Disconnected from"
    r"|no such identity|Load key |sign_and_send_pubkey|Warning: |client_loop: "
    r"|kex_exchange_identification: |banner exchange: |Killed by signal|stdio forwarding failed"
)
_HOST_KEY = re.compile(
    r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED|REVOKED HOST KEY"
    r"|No \S+ host key is known for"
)
_CERTIFICATE = re.compile(r"^(Certificate invalid: .*?)\r?$", re.M)
_DENIED = re.compile(r"^(?:(\S+): )?Permission denied \(([^)]*)\)", re.M)
_NO_NAME = re.compile(r"Could not resolve hostname (\S+): (.*)")
_REFUSED = re.compile(r"connect to host (\S+) port (\d+): Connection refused")
#: The last jump host says this.
_NOT_FORWARDED = re.compile(r"^channel \d+: open failed: (.*)$", re.M)
_CONFIGURATION = re.compile(
    r"^.*(?:Bad owner or permissions on|[Bb]ad configuration option|terminating, \d+ bad"
    r"|Can't open user config|keyword .* extra arguments|unsupported option).*$",
    re.M,
)


def ssh_command(address: HostAddress, more: Sequence[str] = (), ciphers: str = "") -> list[str]:
    """The command line up to the host; the command to run there follows.

    `more`: other options. `ciphers`: "" leaves them to the user's configuration.
    """
    options = dict(_OPTIONS)
    if ciphers:
        options["Ciphers"] = ciphers
    if address.way.strict_host_keys:
        options["StrictHostKeyChecking"] = "yes"
    words = [PROGRAM, *configuration_files(), *more, "-T", "-v"]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return [*words, *host_words(address)]


async def _ssh_command(
    address: HostAddress, shared: bool, asked: Asked | None
) -> tuple[list[str], bool]:
    """As `ssh_command`, with options that depend on the program and the configuration; and whether
    the program may use a master connection. `shared`: whether it is to use one.
    """
    more = [] if shared else ["-oControlPath=none"]
    try:  # if this fails, the program itself will say what is wrong
        more += await options_without_terminal(PROGRAM)
        if asked is None:
            asked = await asyncio.wait_for(ask_openssh(PROGRAM, address), _ASK_SECONDS)
    except (asyncio.TimeoutError, OSError, UnreachableError):
        return ssh_command(address, more), False
    said, default = asked
    await refuse_circle(PROGRAM, address, said)
    ciphers = aes_first(said, default) if has_aes() else ""
    return ssh_command(address, more, ciphers), shared and "controlpath" in said


async def connect_by_openssh(
    address: HostAddress, python: str, asked: Asked | None = None
) -> PipeTransport:
    """Connect, log in and run Python there. Raises HostError.

    `asked`: what `ask_openssh` has just returned for the host.
    """
    await master.refuse_without_login(address)
    try:
        return await _connect(address, python, asked)
    except _MasterHangs:
        # Without an option, ssh would wait for ever, such as after the machine has slept.
        text = "host %s: the shared connection (ControlPath) hangs; connecting without it"
        log.warning(text, address.label)
    return await _connect(address, python, asked, shared=False)


class _MasterHangs(Exception):
    """The master connection takes requests, but does not answer in time."""


async def _connect(
    address: HostAddress, python: str, asked: Asked | None, shared: bool = True
) -> PipeTransport:
    """`shared`: use the master connection, if there is one. Raises HostError, _MasterHangs."""
    name, way = str(address), address.way
    introduction = Introduction(login_python(python, way))
    # A login shell reads these words, so they are quoted. The last word needs no quotes.
    words = shell_command([*way.become, *introduction.argv[:-1]])
    command, shared = await _ssh_command(address, shared, asked)
    argv = [*command, words, introduction.argv[-1]]
    start = PipeStart(introduction, own_words)
    try:
        ProcessCarrier(argv, start, environ=environment())
    except OSError as error:
        raise UnreachableError(
            f"cannot run the program {PROGRAM!r} ({error.strerror}).\n"
            'Install OpenSSH\'s client, or set `connect = "asyncssh"`.',
            host=name,
        ) from None
    try:
        await _within_limits(start)
    except BaseException:
        start.abort()
        raise
    try:
        return start.opened.result()
    except NotOpened as failed:
        if shared and failed.returncode is None and not _OWN.search(start.stderr):
            raise _MasterHangs from None
        tried(_KEY_FILE.findall(start.stderr))
        raise _why(failed, start.stderr, address, python).at(name) from None
    except HostError as error:
        raise error.at(name) from None


def _banner(verbose: str) -> str:
    """The text that the host shows at a login (sshd's Banner, or PAM's), on lines before ours."""
    _, _, later = verbose.partition("SSH2_MSG_SERVICE_ACCEPT received")
    said = _words_of_others(later)
    return f"it says: {said}\n" if said else ""


def _words_of_others(verbose: str) -> str:
    """The last lines that the program did not print itself."""
    words = [line for line in own_words(verbose).splitlines() if not _OF_SSH.match(line.strip())]
    return last_lines("\n".join(words))


async def _within_limits(start: PipeStart) -> None:
    """Wait until the pipe has opened or failed; each phase has its own limit."""
    await asyncio.wait([start.opened], timeout=login_errors.CONNECT_SECONDS)
    proxied = bool(_PROXIED.search(start.stderr))
    if not start.opened.done() and phase_of(start.stderr) < Phase.ANSWERED and proxied:
        await asyncio.wait([start.opened], timeout=login_errors.LOGIN_SECONDS)
    if not start.opened.done() and phase_of(start.stderr) >= Phase.ANSWERED:
        await asyncio.wait([start.opened], timeout=login_errors.LOGIN_SECONDS)
    if not start.opened.done():
        start.fail(what_is_late(phase_of(start.stderr), proxied))


def phase_of(verbose: str) -> Phase:
    """How far the login has come, by the program's `-v` output. Pure.

    With ProxyJump, logins to jump hosts come first.
    """
    if _is_logged_in(verbose):
        return Phase.LOGGED_IN
    *_, last = _LOGGED_IN.split(verbose)
    reached = (phase for phase, words in _PHASES.items() if words.search(last))
    return next(reached, Phase.BEGUN)


def _is_logged_in(verbose: str) -> bool:
    proxies = len(_PROXY.findall(verbose))
    if proxies:
        return len(_BY_PROXY.findall(verbose)) >= proxies
    return bool(_LOGGED_IN.search(verbose))


def _why(failed: NotOpened, verbose: str, address: HostAddress, python: str) -> HostError:
    """The error, by the program's output."""
    if failed.returncode not in (255, None) or _is_logged_in(verbose):
        return why_not_opened(failed, address.way, python)
    if failed.returncode is None:
        return UnreachableError(failed.why)
    return explain(verbose, address)


def explain(verbose: str, address: HostAddress) -> HostError:
    """Why the program could not log in, by its `-v` output. Pure."""
    listed = f"[{address.host}]:{address.port}" if address.port else address.host
    if found := _HOST_KEY.search(verbose):
        return HostKeyError(_host_key(verbose, listed))
    if found := _DENIED.search(verbose):
        return _denied(verbose, found, address)
    if "Too many authentication failures" in verbose:
        return AuthenticationError(
            "the host stopped after too many keys (MaxAuthTries).\n"
            f"Name the right one by IdentityFile and IdentitiesOnly for {address.host}."
        )
    if found := _CONFIGURATION.search(verbose):
        return UnreachableError(f"the SSH configuration: {found.group().strip()}")
    if found := _NO_NAME.search(verbose):
        why = found.group(2).strip()
        return UnknownHostError(name_unknown(why, found.group(1)))
    if found := _REFUSED.search(verbose):
        return UnreachableError(port_refused(found.group(2)))
    if found := _NOT_FORWARDED.search(verbose):
        said = found.group(1).strip()
        return UnreachableError(not_forwarded(said, "administratively prohibited" in said))
    if _PROXY.search(verbose) and (said := _words_of_others(verbose)):
        return UnreachableError(proxy_said(said))
    return UnreachableError(f"{_banner(verbose)}cannot connect: {last_line(own_words(verbose))}")


def _host_key(verbose: str, listed: str) -> str:
    if "REVOKED HOST KEY" in verbose or "revoked by file" in verbose:
        return key_revoked()
    if found := _CERTIFICATE.search(verbose):
        return certificate_invalid(found.group(1))
    if "HAS CHANGED" in verbose:
        return key_changed(listed)
    if "No matching CA found" in verbose:
        return authority_unknown("your known_hosts file")
    return key_unknown(listed)


def _denied(verbose: str, found: re.Match[str], address: HostAddress) -> AuthenticationError:
    who, methods = found.group(1) or "", found.group(2)
    at = f" at {who}" if who else ""
    log_in = f"Log in (again): jupyter remote login {replace(address, way=DEFAULT_WAY)}"
    if "with partial success" in verbose:
        error = LoginWantedError(
            f"our key is accepted{at}, but the host wants more: {methods}.\n{log_in}"
        )
    elif _PIN.search(verbose):
        error = LoginWantedError(f"the smart card asks for its PIN.\n{log_in}")
    elif not _KEY_METHODS & set(methods.split(",")):
        error = LoginWantedError(f"the host takes no key{at}, only: {methods}.\n{log_in}")
    else:
        text = no_key_accepted(str(address), at, f"methods: {methods}")
        return AuthenticationError(_banner(verbose) + text)
    master.login_wanted(address, error)
    return error


def own_words(verbose: str) -> str:
    """The output of the program and of the host's command as it would be without `-v`.

    Lines of `-v` may stand in the middle of the command's output.
    """
    quiet = _DEBUG.sub("", verbose)
    return "\n".join(line for line in quiet.splitlines() if not _VERBOSE.match(line))
