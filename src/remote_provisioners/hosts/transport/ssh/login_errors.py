"""What both ways in by SSH say about a login that fails, and how long its phases may take. Pure."""

from __future__ import annotations

import enum

#: How long an SSH server may take to answer at all: after that we give the host up.
CONNECT_SECONDS = 5.0
#: How long key exchange and login may take then: the host or its user directory may be slow.
LOGIN_SECONDS = 15.0


class Phase(enum.IntEnum):
    """How far a login has come."""

    BEGUN = enum.auto()
    #: The port takes connections.
    CONNECTED = enum.auto()
    #: The other side has introduced itself as an SSH server.
    ANSWERED = enum.auto()
    KEYS_EXCHANGED = enum.auto()
    LOGGED_IN = enum.auto()


def answer_seconds(proxied: bool) -> float:
    """How long the first answer may take. A proxy may have to log in somewhere itself before."""
    return CONNECT_SECONDS + LOGIN_SECONDS if proxied else CONNECT_SECONDS


def what_is_late(phase: Phase, proxied: bool) -> str:
    """Which limit has passed, and what the reason may be."""
    login, answer = f"{LOGIN_SECONDS:.0f} s", f"{answer_seconds(proxied):.0f} s"
    if phase >= Phase.LOGGED_IN:
        return (
            f"logged in, but no command ran within {login}.\n"
            "The start-up files of the login shell may wait, or the host may be overloaded"
        )
    if phase >= Phase.KEYS_EXCHANGED:
        return (
            f"connected, but the login was not over within {login}.\n"
            "The host may be overloaded, or PAM, LDAP or AuthorizedKeysCommand may hang"
        )
    if phase >= Phase.ANSWERED:
        return (
            f"connected, but keys were not exchanged within {login}.\n"
            "The host may be overloaded, or large packets may be lost on the way (MTU)"
        )
    if proxied:
        return f"no answer within {answer} through its ProxyCommand or ProxyJump"
    if phase >= Phase.CONNECTED:
        return (
            f"no answer within {answer}: connections are accepted, but no SSH server speaks.\n"
            "The host may hang, or another program than sshd listens at that port"
        )
    return f"no answer within {answer}: down, or a firewall drops packets"


def name_unknown(why: str, name: str = "") -> str:
    """`name`: of another machine on the way to the host."""
    which = f"the name {name}" if name else "the name"
    return (
        f"{which} does not resolve ({why}).\nCheck the spelling, or set HostName in ~/.ssh/config."
    )


def port_refused(port: int | str) -> str:
    """Nobody listens at the port."""
    return f"port {port} refuses connections: is sshd running there?"


def not_forwarded(said: str, forbidden: bool) -> str:
    """The last jump host does not connect to the host. `said`: its reason."""
    if forbidden:
        return (
            f"the jump host before it refuses to forward ({said}).\n"
            "Its sshd needs `AllowTcpForwarding yes`"
        )
    return f"the jump host before it cannot connect to it: {said}"


def proxy_said(said: str) -> str:
    """A ProxyCommand has ended. `said`: its output."""
    return f"cannot connect: its ProxyCommand said:\n{said}"


def no_key_accepted(name: str, at: str, said: str) -> str:
    """`at`: the host that refuses, with a space before it, if it is not the one of `name`."""
    return f"none of our keys is accepted{at} ({said}):\nmake `ssh {name}` work without a password"


def key_changed(key_name: str, details: str = "", known: str = "") -> str:
    """The host has another key than the known one. `known`: the files that contain that one."""
    said, where = f" ({details})" if details else "", f" (known: {known})" if known else ""
    return (
        f"the host key has CHANGED{said}: somebody may be in between.\n"
        f"If the host was set up anew, forget the old key: ssh-keygen -R '{key_name}'{where}"
    )


def key_revoked(details: str = "") -> str:
    """A list of revoked keys names the host's key."""
    said = f" ({details})" if details else ""
    return (
        f"the host key is REVOKED{said}: it was stolen or replaced.\n"
        "Do not connect; ask who runs the host"
    )


def key_unknown(name: str, details: str = "", known: str = "") -> str:
    """No file of known hosts has the host. `known`: where its key may be added."""
    said, where = f" ({details})" if details else "", f", or add it to {known}" if known else ""
    return f"the host key is unknown{said}.\nConnect once by `ssh {name}` and confirm it{where}"


def certificate_invalid(said: str) -> str:
    """The host's certificate has expired, is not valid yet, or names another host."""
    return f"{said}: the host needs a new certificate"


def authority_unknown(known: str, details: str = "") -> str:
    """No file of known hosts has the authority that signed the host's certificate."""
    said = f" ({details})" if details else ""
    return (
        f"an unknown authority has signed the host's certificate{said}.\n"
        f"Add the authority's key with @cert-authority to {known}"
    )
