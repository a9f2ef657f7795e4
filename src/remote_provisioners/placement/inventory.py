"""The configured hosts with their properties. Pure except for reading a file.

A host is a text or a table ``{"host": ..., "weight": ..., ...}``. The path of a TOML or JSON file
(``[[hosts]]``) may stand for the whole list.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError
from .host_address import HostAddress, parse_address
from .way_in import Connect, WayOptions, check_connect, check_run_as, check_user_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class HostSpec:
    """A host as configured. `name` is how it was written.

    `python`, `hook` and `preload` concern the kernel. Kernels that differ in them share the host.
    """

    name: str
    address: HostAddress
    python: str = ""
    hook: str = ""
    #: Modules that Python kernels find imported.
    preload: tuple[str, ...] = ()
    weight: float = 1.0
    #: The most kernels that it gets; None: no limit.
    capacity: int | None = None
    labels: frozenset[str] = frozenset()
    #: The devices for kernels, as CUDA_VISIBLE_DEVICES names them.
    gpus: tuple[str, ...] = ()
    connect: Connect = ""
    run_as: str = ""


Inventory = tuple[HostSpec, ...]


def merged(one: HostSpec, other: HostSpec) -> HostSpec:
    """Combine two kernelspecs' descriptions of one host."""
    return dataclasses.replace(
        one,
        labels=one.labels | other.labels,
        gpus=tuple(dict.fromkeys(one.gpus + other.gpus)),
        capacity=one.capacity if one.capacity is not None else other.capacity,
        weight=one.weight if one.weight != 1 else other.weight,
    )


def read_inventory(listed: Sequence[str | Mapping[str, Any]]) -> Inventory:
    """Parse the entries of `listed`. A single path stands for the list in that file.

    Raises ConfigurationError that names the entry or the file.
    """
    if len(listed) == 1 and isinstance(listed[0], str) and is_path(listed[0]):
        return _read_file(os.path.expanduser(listed[0]))
    if all(isinstance(item, str) for item in listed):
        return _read_names(tuple(map(str, listed)))
    return _read_json(json.dumps(listed, sort_keys=True, default=repr))


# Each start reads the inventory, so a thousand hosts must not take milliseconds. The cache returns
# the same object for the same configuration, so kernelspecs with the same hosts share turns.
@functools.lru_cache(maxsize=64)
def _read_names(names: tuple[str, ...]) -> Inventory:
    return _read(names)


@functools.lru_cache(maxsize=64)
def _read_json(text: str) -> Inventory:
    return _read(json.loads(text))


def _read(listed: Sequence[str | Mapping[str, Any]]) -> Inventory:
    # A host that is listed twice counts once, with its first description.
    entries: dict[str, HostSpec] = {}
    for item in listed:
        entry = _entry(item)
        entries.setdefault(entry.name, entry)
    if not entries:
        raise ConfigurationError("remote_hosts is empty: name a host, or localhost")
    return tuple(entries.values())


def for_user(inventory: Inventory, options: WayOptions, username: str) -> Inventory:
    """The hosts, each with the way in for the kernels of a user. Raises ConfigurationError.

    Returns the same object for the same arguments, because turns belong to an inventory. Users
    share it where nothing in it depends on them.
    """
    for name in ("", username):
        known = _for_users.get((id(inventory), options, name))
        if known is not None and known[0] is inventory:
            return known[1]
    made = tuple(spec_for_user(spec, options, username) for spec in inventory)
    key = id(inventory), options, username if _depends_on_user(inventory, options) else ""
    _for_users[key] = inventory, made
    if len(_for_users) > _MOST_USERS:
        del _for_users[next(iter(_for_users))]
    return made


#: By what they were made of. The inventory, whose identity is in the key, is kept.
_for_users: dict[tuple[int, WayOptions, str], tuple[Inventory, Inventory]] = {}
_MOST_USERS = 256


def _depends_on_user(inventory: Inventory, options: WayOptions) -> bool:
    texts = [*options.connect, options.run_as] if options.connect else [options.run_as]
    for spec in inventory:
        texts += [*spec.connect, spec.run_as, spec.address.user]
    return any("{username}" in text for text in texts)


def spec_for_user(spec: HostSpec, options: WayOptions, username: str) -> HostSpec:
    """The host with the way in for a user's kernels. Raises ConfigurationError."""
    address = spec.address
    try:
        user = address.user
        if "{username}" in user:
            user = user.replace("{username}", check_user_name(username))
        values = {"host": address.host, "user": user, "username": username}
        if address.port:
            values["port"] = str(address.port)
        way = options.way_in(spec.connect, spec.run_as, values)
    except ConfigurationError as error:
        raise ConfigurationError(f"host {spec.name}: {error.message}") from None
    return dataclasses.replace(spec, address=dataclasses.replace(address, user=user, way=way))


def is_path(text: str) -> bool:
    """Whether a text names a file, not a host. Host names contain no slash."""
    return "/" in text


def _read_file(path: str) -> Inventory:
    try:
        status = os.stat(path)
    except OSError as error:
        raise ConfigurationError(f"cannot read the hosts in {path}: {error.strerror}") from None
    return _read_version(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=8)
def _read_version(path: str, modified: int, size: int) -> Inventory:
    """Read a file. The date and size are part of the cache key, so changes are seen."""
    try:
        with open(path, "rb") as file:
            if path.endswith(".json"):
                content = json.load(file)
            else:  # editors on Windows may begin it with a mark, as they may with JSON
                content = tomllib.loads(file.read().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the hosts in {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"cannot read the hosts in {path}: {error}") from None
    hosts = content.get("hosts") if isinstance(content, dict) else None
    if not isinstance(hosts, list) or set(content) != {"hosts"}:
        raise ConfigurationError(f"cannot read the hosts in {path}: it needs one list, `hosts`")
    try:
        return read_inventory([_no_path(item) for item in hosts])
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.message}") from None


def _no_path(item: Any) -> Any:
    if isinstance(item, str) and is_path(item):
        raise ConfigurationError(f"{item!r} is not a host")
    return item


def _entry(item: str | Mapping[str, Any]) -> HostSpec:
    if isinstance(item, str):
        return HostSpec(item.strip(), parse_address(item))
    if not isinstance(item, Mapping) or not isinstance(item.get("host"), str):
        raise ConfigurationError(
            f"a host must be a name or a table with the key `host`, not {item!r}"
        )
    properties = dict(item)
    name = properties.pop("host")
    address = parse_address(name)
    if unknown := sorted(set(properties) - set(_CHECKS)):
        raise ConfigurationError(
            f"host {name}: unknown property {unknown[0]!r} (known: {', '.join(sorted(_CHECKS))})"
        )
    for property_, value in properties.items():
        properties[property_] = _CHECKS[property_](name, property_, value)
    if "environment_hook" in properties:
        properties["hook"] = properties.pop("environment_hook")
    return HostSpec(name.strip(), address, **properties)


def _weight(host: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.1 <= value <= 10:
        raise _unusable(host, name, value, "a number from 0.1 to 10")
    return float(value)


def _capacity(host: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _unusable(host, name, value, "a number of kernels")
    return value


def _labels(host: str, name: str, value: Any) -> frozenset[str]:
    words = [word.strip() for word in value.split(",")] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(w, str) and w for w in words):
        raise _unusable(host, name, value, "a list of words")
    return frozenset(words)


def _gpus(host: str, name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 64:
        return tuple(map(str, range(value)))
    if isinstance(value, list) and all(isinstance(v, (int, str)) and str(v) for v in value):
        return tuple(dict.fromkeys(map(str, value)))
    raise _unusable(host, name, value, "a number of devices, or a list of their names")


def _preload(host: str, name: str, value: Any) -> tuple[str, ...]:
    words = [word.strip() for word in value.split(",")] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _unusable(host, name, value, "a list of modules")
    check_modules(f"host {host}: {name}", words)
    return tuple(words)


def check_modules(place: str, names: Sequence[str]) -> None:
    """Refuse texts that are not module names. Raises ConfigurationError."""
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigurationError(f"{place}: {name!r} is not a module name")


def _text(host: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _unusable(host, name, value, "a text")
    return value


def _connect(host: str, name: str, value: Any) -> Connect:
    return check_connect(f"host {host}: {name}", value)


def _run_as(host: str, name: str, value: Any) -> str:
    return check_run_as(f"host {host}: {name}", value)


_CHECKS = {
    "connect": _connect,
    "run_as": _run_as,
    "weight": _weight,
    "capacity": _capacity,
    "labels": _labels,
    "gpus": _gpus,
    "preload": _preload,
    "python": _text,
    "environment_hook": _text,
}


def _unusable(host: str, name: str, value: Any, needs: str) -> ConfigurationError:
    return ConfigurationError(f"host {host}: {name} is {value!r}, must be {needs}")
