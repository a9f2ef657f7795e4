"""The users of one host: private copies of this machine's password files."""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class User:
    name: str
    uid: int
    home: Path


def write_accounts(directory: Path, users: list[User]) -> None:
    """Write passwd, group and shadow as they are here, but for the given users."""
    names = {user.name for user in users}
    numbers = {user.uid for user in users}
    passwd = [
        f"{p.pw_name}:x:{p.pw_uid}:{p.pw_gid}:{p.pw_gecos}:{p.pw_dir}:{p.pw_shell}"
        for p in pwd.getpwall()
        if p.pw_name not in names and p.pw_uid not in numbers
    ]
    group = [
        f"{g.gr_name}:x:{g.gr_gid}:{','.join(g.gr_mem)}"
        for g in grp.getgrall()
        if g.gr_name not in names and g.gr_gid not in numbers
    ]
    # "*" is no password; "!" would be a locked account, which sshd refuses without PAM.
    shadow = [f"{line.split(':', 1)[0]}:*:20000::::::" for line in passwd]
    for user in reversed(users):
        passwd.insert(0, f"{user.name}:x:{user.uid}:{user.uid}::{user.home}:/bin/bash")
        group.insert(0, f"{user.name}:x:{user.uid}:")
        shadow.insert(0, f"{user.name}:*:20000::::::")
    for name, lines, mode in (
        ("passwd", passwd, 0o644),
        ("group", group, 0o644),
        ("shadow", shadow, 0o600),
    ):
        (directory / name).write_text("\n".join(lines) + "\n")
        (directory / name).chmod(mode)


def make_home(user: User, *, chown: bool) -> None:
    ssh = user.home / ".ssh"
    for path in (user.home, ssh):
        path.mkdir(mode=0o755, parents=True)
        path.chmod(0o755 if path == user.home else 0o700)
        if chown:
            os.chown(path, user.uid, user.uid)
