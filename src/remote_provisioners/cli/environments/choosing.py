"""Choose the environments to add: by name, all, or by an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...environments.environment import Environment
from ...environments.naming import short
from ...environments.survey import HostEnvironments
from ..command import MISUSED, CommandError, meant
from ..table import columns


@dataclass
class Candidate:
    """An environment that can run kernels, and the hosts that have it."""

    environment: Environment
    hosts: list[str] = field(default_factory=list)

    @property
    def words(self) -> set[str]:
        return {self.environment.name, self.environment.path, self.environment.title}


def candidates(hosts: Sequence[HostEnvironments]) -> list[Candidate]:
    found: dict[tuple[str, str], Candidate] = {}
    for host in hosts:
        for environment in host.usable:
            key = environment.key, environment.title
            found.setdefault(key, Candidate(environment)).hosts.append(host.host.name)
    return list(found.values())


def chosen_by_name(
    hosts: Sequence[HostEnvironments], listed: Sequence[Candidate], names: Sequence[str]
) -> list[Candidate]:
    """The candidates with these names, titles or paths. Raises CommandError."""
    chosen: list[Candidate] = []
    for name in names:
        found = [each for each in listed if name in each.words]
        if not found:
            raise CommandError(_why_not(hosts, listed, name))
        chosen += [each for each in found if each not in chosen]
    return chosen


def _why_not(hosts: Sequence[HostEnvironments], listed: Sequence[Candidate], name: str) -> str:
    for host in hosts:
        for each in host.environments:
            if name in (each.name, each.path, each.title):
                advice = f"\nRun on the host: {each.install}" if each.install else ""
                return f"host {host.host.name}: {name} cannot run kernels: {each.missing}{advice}"
    known = [each.environment.name for each in listed]
    return f"no environment {name!r}{meant(name, known)} (known: {', '.join(known) or 'none'})"


def menu(listed: Sequence[Candidate]) -> list[str]:
    """A line for each candidate, numbered from 1."""
    rows = [
        (
            str(number),
            each.environment.title,
            ", ".join(map(short, each.hosts)),
            each.environment.path,
        )
        for number, each in enumerate(listed, 1)
    ]
    return ["  " + line for line in columns(rows)]


def chosen_by_answer(listed: Sequence[Candidate], answer: str) -> list[Candidate]:
    """The candidates of an answer such as ``1,3-5``; all of them for an empty one.

    Raises CommandError.
    """
    words = answer.replace(",", " ").split()
    if not words or words == ["all"]:
        return list(listed)
    if words == ["none"]:
        return []
    chosen: list[Candidate] = []
    for word in words:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        named = [each for each in listed if word in each.words]
        if match is not None:
            first, last = int(match[1]), int(match[2] or match[1])
            if not 1 <= first <= last <= len(listed):
                raise CommandError(f"{word}: the numbers are 1 to {len(listed)}", MISUSED)
            named = list(listed[first - 1 : last])
        elif not named:
            raise CommandError(f"{word!r} is neither a number nor a name in the list", MISUSED)
        chosen += [each for each in named if each not in chosen]
    return chosen
