"""Reads the user's SSH configuration of a host as OpenSSH itself does.

``ssh -G HOST`` evaluates ~/.ssh/config and the system's file for one host (ssh(1)), with every
form of ``Match``, ``Include``, quoting and token that this OpenSSH knows. It runs in a process of
its own, so ``Match exec`` does not block the server. Without an ``ssh`` program, asyncssh reads
the files.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ....errors import UnreachableError
from ....placement.host_address import HostAddress
from ....user import database_entry, user_name
from .configuration import SSH_PORT, SSHConfiguration

#: The limit for ``ssh -G``: ``Match exec`` and canonical names (DNS) may take long.
_SECONDS = 20.0
_USER_FILE = "~/.ssh/config"
_SYSTEM_FILE = "/etc/ssh/ssh_config"
#: Options that name algorithms, with asyncssh's names for them.
_ALGORITHMS = {
    "ciphers": "encryption_algs",
    "kexalgorithms": "kex_algs",
    "macs": "mac_algs",
    "hostkeyalgorithms": "server_host_key_algs",
}
#: Keywords of ssh_config(5) that asyncssh cannot follow: with any value, or switched on.
_ONLY_OPENSSH = {
    "controlpath": "ControlPath",
    "pkcs11provider": "PKCS11Provider",
    "knownhostscommand": "KnownHostsCommand",
    "bindinterface": "BindInterface",
}
_ONLY_OPENSSH_IF_ON = {
    "proxyusefdpass": "ProxyUseFdpass",
    "hostbasedauthentication": "HostbasedAuthentication",
    "verifyhostkeydns": "VerifyHostKeyDNS",
}

#: Settings for terminals, which our connection cannot have. Older programs do not know them.
_NOT_OURS = {"ForkAfterAuthentication": "no", "SessionType": "default", "StdinNull": "no"}

#: The values of each keyword.
Values = dict[str, list[str]]
#: The values of each `ssh` program without any file: asked once, not for each connection.
_defaults: dict[str, Values] = {}


async def read_configuration(address: HostAddress) -> SSHConfiguration:
    """The SSH configuration of an address. Raises UnreachableError when it cannot be read."""
    program = await asyncio.to_thread(shutil.which, "ssh")  # in a thread: files may hang
    if program is None:
        from .without_openssh import read_by_asyncssh  # noqa: PLC0415

        return await asyncio.to_thread(read_by_asyncssh, address)
    said, default = await ask_openssh(program, address)
    return interpret(address.host, said, default)


async def ask_openssh(program: str, address: HostAddress) -> tuple[Values, Values]:
    """The output of ``ssh -G`` for an address, and without any configuration file.

    Raises UnreachableError when it fails, OSError when it cannot run.
    """
    default = await _default(program)
    files = await asyncio.to_thread(configuration_files)
    options = [*files, *_not_ours(default), "-G"]
    return await _ask([program, *options, *host_words(address)]), default


def environment() -> dict[str, str]:
    """Our environment for an ``ssh`` program, also one that runs others (ProxyJump): no window
    shall ask for a password, once for each attempt to connect.
    """
    return {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}


async def options_without_terminal(program: str) -> list[str]:
    """Options that take back what a configuration sets for terminals. Raises as `ask_openssh`."""
    return _not_ours(await _default(program))


async def _default(program: str) -> Values:
    if program not in _defaults:
        _defaults[program] = await _ask([program, "-F", "none", "-G", "--", "localhost"])
    return _defaults[program]


def _not_ours(default: Values) -> list[str]:
    return [f"-o{name}={value}" for name, value in _NOT_OURS.items() if name.lower() in default]


def host_words(address: HostAddress) -> list[str]:
    """The end of the ssh program's options: user, port and host."""
    user = ["-l", address.user] if address.user else []
    port = ["-p", str(address.port)] if address.port else []
    return [*user, *port, "--", address.host]


async def _ask(argv: Sequence[str]) -> Values:
    # `Match exec` commands have our stderr. A program that they leave may keep it open,
    # so it is a file: nobody waits for its end.
    with await asyncio.to_thread(tempfile.TemporaryFile) as errors:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        try:
            stdout, _ = await asyncio.wait_for(process.communicate(), _SECONDS)
        except asyncio.TimeoutError:
            raise UnreachableError(
                f"the SSH configuration: `ssh -G` did not end within {_SECONDS:.0f} s;\n"
                "a `Match exec` command or a name server may hang"
            ) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        errors.seek(0)
        said = (await asyncio.to_thread(errors.read)).decode("utf-8", "replace").strip()
    values: Values = {}
    for line in stdout.decode("utf-8", "surrogateescape").splitlines():
        keyword, _, value = line.partition(" ")
        values.setdefault(keyword, []).append(value)
    if "hostname" not in values:  # the exit code is lost where this process ignores SIGCHLD
        raise UnreachableError(f"the SSH configuration cannot be read: {said or 'ssh -G failed'}")
    return values


def configuration_files() -> list[str]:
    """Arguments that let the ssh program read the files below $HOME: by itself it takes the home
    directory from the user database."""
    mine = os.path.expanduser(_USER_FILE)
    if mine == _home_of_openssh() + _USER_FILE[1:]:
        return []
    return ["-F", mine if os.path.isfile(mine) else "none"]


def _home_of_openssh() -> str:
    entry = database_entry()
    return entry.pw_dir if entry is not None else ""


def interpret(
    name: str, said: Mapping[str, Sequence[str]], default: Mapping[str, Sequence[str]]
) -> SSHConfiguration:
    """Interpret `said`, the output of ``ssh -G``; `default` is its output without any file."""
    host, user = _one(said, "hostname", name), _one(said, "user")
    alias, jump = _one(said, "hostkeyalias"), _one(said, "proxyjump")
    port = int(_one(said, "port", str(SSH_PORT)))
    tokens = {
        **_machine_tokens(),
        "h": host,
        "n": name,
        "p": str(port),
        "r": user,
        "j": jump,
        "k": alias or name,
    }
    digested = f"{tokens['l']}{host}{port}{user}{jump}".encode()
    tokens["C"] = hashlib.sha1(digested, usedforsecurity=False).hexdigest()

    def paths(values: Sequence[str]) -> tuple[str, ...]:
        return tuple(_path(v, tokens) for v in values if v and v.lower() != "none")

    files = ("userknownhostsfile", "globalknownhostsfile")
    known = [word for keyword in files for word in _words(_one(said, keyword))]
    return SSHConfiguration(
        name=name,
        host=host,
        port=port,
        user=user,
        host_key_alias=alias,
        known_hosts=paths(known),
        revoked_host_keys=(*paths([_one(said, "revokedhostkeys")]), "")[0],
        identity_files=paths(said.get("identityfile", [])),
        certificate_files=paths(said.get("certificatefile", [])),
        identities_only=_flag(said, "identitiesonly"),
        agent=_agent(said.get("identityagent", ["SSH_AUTH_SOCK"])[0], tokens),
        jumps=jump_hosts(name, said),
        proxy_command="" if jump else _expanded(_one(said, "proxycommand"), tokens),
        algorithms={
            theirs: _one(said, ours).split(",")
            for ours, theirs in _ALGORITHMS.items()
            if said.get(ours) != default.get(ours) and _one(said, ours)
        },
        options=_options(said),
        only_openssh=(
            *(word for keyword, word in _ONLY_OPENSSH.items() if _one(said, keyword)),
            *(word for keyword, word in _ONLY_OPENSSH_IF_ON.items() if _flag(said, keyword)),
            "",
        )[0],
        asked=(said, default),
    )


def jump_hosts(name: str, said: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The jump hosts in `said`, the output of ``ssh -G`` for `name`; the first one first."""
    jump = _one(said, "proxyjump")
    tokens = {
        "%": "%",
        "h": _one(said, "hostname", name),
        "n": name,
        "p": _one(said, "port", str(SSH_PORT)),
        "r": _one(said, "user"),
    }
    return tuple(_expanded(hop, tokens) for hop in jump.split(",")) if jump else ()


def _options(said: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The arguments of asyncssh that have the values of OpenSSH's options."""
    options: dict[str, Any] = {
        "compression_algs": ["zlib@openssh.com", "none"]
        if _flag(said, "compression")
        else ["none"],
        "gss_auth": _flag(said, "gssapiauthentication"),
        "gss_kex": _flag(said, "gssapikeyexchange"),
        "gss_delegate_creds": _flag(said, "gssapidelegatecredentials"),
        "public_key_auth": _one(said, "pubkeyauthentication", "yes").lower() not in ("no", "false"),
    }
    if _one(said, "preferredauthentications"):
        options["preferred_auth"] = _one(said, "preferredauthentications")
    if _one(said, "bindaddress"):
        options["local_addr"] = (_one(said, "bindaddress"), 0)
    family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(_one(said, "addressfamily"))
    if family is not None:
        options["family"] = family
    if "setenv" in said:
        options["env"] = dict(v.split("=", 1) for v in said["setenv"] if "=" in v)
    return options


def _one(said: Mapping[str, Sequence[str]], keyword: str, otherwise: str = "") -> str:
    value = said.get(keyword, [otherwise])[0]
    return otherwise if value.lower() == "none" else value


def _flag(said: Mapping[str, Sequence[str]], keyword: str) -> bool:
    return _one(said, keyword).lower() in ("yes", "true")


def _agent(value: str, tokens: Mapping[str, str]) -> str:
    """The socket that ``IdentityAgent`` names (ssh_config(5))."""
    if value.lower() == "none":
        return ""
    if value == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK", "")
    if value.startswith("$") and not value.startswith("${"):
        return os.environ.get(value[1:], "")
    return _path(value, tokens)


def _machine_tokens() -> dict[str, str]:
    """The tokens of ssh_config(5) that do not depend on the host."""
    full = socket.gethostname()
    return {
        "%": "%",
        "d": os.path.expanduser("~"),
        "i": str(os.getuid()),
        "L": full.partition(".")[0],
        "l": full,
        "u": user_name(),
    }


def _expanded(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub(r"%(.)", lambda found: tokens.get(found[1], found[0]), text)


def _path(text: str, tokens: Mapping[str, str]) -> str:
    """A path of the configuration, made absolute. OpenSSH's expansion of ~ becomes $HOME."""
    variables = re.sub(r"\$\{(\w+)\}", lambda v: os.environ.get(v[1], v[0]), text)
    path = os.path.expanduser(_expanded(variables, tokens))
    theirs, ours = _home_of_openssh(), os.path.expanduser("~")
    if theirs and theirs != ours and path.startswith(f"{theirs}/.ssh/"):
        return ours + path[len(theirs) :]
    return path


def _words(text: str) -> list[str]:
    """Split a list of paths as OpenSSH writes it: newer programs put one with a space in quotes,
    others do not. A word that cannot begin a path goes on with the one before.
    """
    found = re.findall(r'"([^"]*)"|(.+?)(?= +[/~$%"]| +none\b| *$)', text)
    return [quoted or bare.strip() for quoted, bare in found]
