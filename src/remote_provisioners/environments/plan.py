"""Plans the changes that make the kernelspecs here agree with the environments there. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .host_entry import Entry, name_of
from .installed import InstalledEnvironment
from .kernelspec import SECTION, Offer, content, file_digests
from .naming import GONE, kernelspec_name, title

#: What happens to a kernelspec.
NEW, CHANGED, UNCHANGED, GONE_NOW, EDITED = "new", "changed", "unchanged", "gone", "edited"


@dataclass(frozen=True)
class Change:
    """A kernelspec to write. `offer`: the source of its files; None: they stay."""

    kind: str
    name: str
    title: str
    hosts: Sequence[str]
    key: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)
    offer: Offer | None = None
    installed: InstalledEnvironment | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "change": self.kind,
            "name": self.name,
            "display_name": self.title,
            "hosts": list(self.hosts),
            "environment": self.key,
        }

    @property
    def written(self) -> bool:
        return self.kind in (NEW, CHANGED, GONE_NOW)


def plan(
    offers: Iterable[Offer],
    installed: Sequence[InstalledEnvironment],
    taken: Collection[str],
    present: Mapping[str, Collection[str]] | None = None,
) -> list[Change]:
    """The changes that make kernelspecs of all `offers`.

    `taken`: the names of all kernelspecs here. `present`: the keys of the environments of each host
    that has answered. Other environments of these hosts are gone.
    """
    present = present or {}
    groups = _groups(offers, installed)
    former = _former(groups, installed)
    names, changes = set(taken), []
    titles = {each.name: each.title for each in installed}
    for number, group in enumerate(groups):
        elsewhere = {
            offer.host
            for other in groups
            for offer in other
            if other is not group and offer.environment.key == group[0].environment.key
        }
        change = _of_group(
            group,
            former.get(number),
            names=names,
            titles=titles,
            present=present,
            elsewhere=elsewhere,
        )
        names.add(change.name)
        titles[change.name] = change.title
        changes.append(change)
    done = {change.name for change in changes}
    for each in installed:
        left = [host for host in each.hosts if each.key in present.get(host, (each.key,))]
        if each.name not in done and len(left) < len(each.hosts):
            changes.append(_without(each, left))
    return changes


def _groups(
    offers: Iterable[Offer], installed: Sequence[InstalledEnvironment]
) -> list[list[Offer]]:
    """The offers of each kernelspec: the same environment on several hosts.

    If hosts have it in different kernelspecs already, these stay, because notebooks name them.
    """
    groups: dict[tuple[str, str], list[Offer]] = {}
    without: list[tuple[str, Offer]] = []
    for offer in offers:
        owner = _owner(offer, installed)
        if owner is None:
            without.append((offer.design, offer))
        else:
            groups.setdefault((offer.design, owner.name), []).append(offer)
    for design, offer in without:
        same = next((group for (of, _), group in groups.items() if of == design), None)
        (groups.setdefault((design, ""), []) if same is None else same).append(offer)
    return list(groups.values())


def _owner(offer: Offer, installed: Sequence[InstalledEnvironment]) -> InstalledEnvironment | None:
    """The kernelspec that this host's environment has already."""
    key, host = offer.environment.key, offer.host
    return next((each for each in installed if each.key == key and host in each.hosts), None)


def _former(
    groups: Sequence[Sequence[Offer]], installed: Sequence[InstalledEnvironment]
) -> dict[int, InstalledEnvironment]:
    """The kernelspec that each group of offers has already, by the group's number.

    It is the kernelspec of the group's hosts, or of the same environment on other hosts. If an
    environment of several hosts has become two, the unchanged one keeps the kernelspec.
    """
    found: dict[int, InstalledEnvironment] = {}
    used: set[str] = set()

    def take(number: int, each: InstalledEnvironment | None) -> None:
        if each is not None and number not in found and each.name not in used:
            found[number] = each
            used.add(each.name)

    owners = [_owner(group[0], installed) for group in groups]
    for number, owner in enumerate(owners):
        if owner is not None and _is_as_before(groups[number][0], owner):
            take(number, owner)
    for number, owner in enumerate(owners):
        take(number, owner)
    for number, group in enumerate(groups):
        if owners[number] is None:
            same = (each for each in installed if each.key == group[0].environment.key)
            take(number, next((each for each in same if _is_as_before(group[0], each)), None))
    return found


def _is_as_before(offer: Offer, installed: InstalledEnvironment) -> bool:
    """Whether the kernelspec would be the same, except for its hosts and title."""
    made = content(offer, installed.title, installed.entries)
    made["metadata"][SECTION]["hosts"] = installed.section.get("hosts")
    before = {k: v for k, v in installed.section.items() if k not in ("written", "gone")}
    metadata = {**installed.content["metadata"], SECTION: before}
    as_before = made == {**installed.content, "metadata": metadata}
    return as_before and file_digests(offer.files) == installed.files


def _of_group(
    group: Sequence[Offer],
    before: InstalledEnvironment | None,
    *,
    names: Collection[str],
    titles: Mapping[str, str],
    present: Mapping[str, Collection[str]],
    elsewhere: Collection[str],
) -> Change:
    """`elsewhere`: hosts on which the environment has become another one."""
    offer = group[0]
    entries: dict[str, Entry] = {}
    about: dict[str, Mapping[str, str]] = {}
    if before is not None:
        for entry in before.entries:  # hosts that still have it, or were not asked
            host = name_of(entry)
            if host not in elsewhere and before.key in present.get(host, (before.key,)):
                entries[host] = entry
        about = {host: before.section.get("hosts", {}).get(host, {}) for host in entries}
    for each in group:
        entries.setdefault(each.host, each.entry)
        about[each.host] = each.about_host()
    hosts = list(entries)
    name = before.name if before else kernelspec_name(offer.environment.name, hosts, names)
    others = {shown for of, shown in titles.items() if of != name}
    display_name = title(offer.environment.title, hosts, others)
    made = content(offer, display_name, list(entries.values()), about)
    kind = NEW
    if before is not None and before.edited:
        kind, display_name = EDITED, before.title
    elif before is not None:
        section = {k: v for k, v in before.section.items() if k != "written"}
        metadata = {**before.content["metadata"], SECTION: section}
        same_files = file_digests(offer.files) == before.files
        unchanged = made == {**before.content, "metadata": metadata} and same_files
        kind = UNCHANGED if unchanged else CHANGED
    return Change(kind, name, display_name, hosts, offer.environment.key, made, offer, before)


def _without(installed: InstalledEnvironment, left: Sequence[str]) -> Change:
    """The kernelspec of an environment that is gone from some or all of its hosts."""
    if installed.edited:
        return Change(EDITED, installed.name, installed.title, installed.hosts, installed.key)
    if installed.gone and not left:
        return Change(UNCHANGED, installed.name, installed.title, installed.hosts, installed.key)
    section = {k: v for k, v in installed.section.items() if k != "written"}
    made = {**installed.content, "metadata": {**installed.content["metadata"], SECTION: section}}
    known = section["environment"]["title"]
    if left:
        entries = [entry for entry in installed.entries if name_of(entry) in left]
        stanza = made["metadata"]["kernel_provisioner"]
        config = {**stanza["config"], "remote_hosts": entries}
        made["metadata"]["kernel_provisioner"] = {**stanza, "config": config}
        section["hosts"] = {host: section["hosts"].get(host, {}) for host in left}
        made["display_name"] = title(known, left, ())
        kind, hosts = CHANGED, list(left)
    else:
        section["gone"] = True
        made["display_name"] = title(known, installed.hosts, ()) + GONE
        kind, hosts = GONE_NOW, installed.hosts
    shown = str(made["display_name"])
    return Change(kind, installed.name, shown, hosts, installed.key, made, None, installed)
