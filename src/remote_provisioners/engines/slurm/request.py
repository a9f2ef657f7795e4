"""The properties of a job: the operator's options, and a request's, within limits. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import ConfigurationError, UnauthorizedError
from .reasons import read_seconds

#: A name of Slurm's: of a partition, an account, a QOS, a reservation; or several.
_NAMES = re.compile(r"[A-Za-z0-9_.@:+,][A-Za-z0-9_.@:+,-]*")
_CONSTRAINT = re.compile(r"[A-Za-z0-9_.\[(][A-Za-z0-9_.,&|*()\[\]:=+-]*")
_MEMORY = re.compile(r"(\d+)([KMGT]?)B?", re.IGNORECASE)
_GPUS = re.compile(r"(?:[A-Za-z0-9_.-]+:)?(\d+)")
_MEBIBYTES = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}

#: The properties of a job, each with sbatch's option.
PROPERTIES = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "time": "time",
    "cpus": "cpus-per-task",
    "memory": "mem",
    "gpus": "gpus",
    "constraint": "constraint",
    "reservation": "reservation",
}
_FORMS = {
    "time": "a time: minutes, H:M:S, or D-H:M:S",
    "cpus": "a number of CPUs",
    "memory": "a number of MiB, or with K, M, G or T, such as 16G",
    "gpus": "a number of GPUs, or type:number",
    "constraint": "features, such as a100&nvlink",
}
#: Properties with a maximum. The others have a list of values.
_SIZES = ("time", "cpus", "memory", "gpus")
ANY = "*"
VARIABLE = "KERNEL_SLURM_"


@dataclass(frozen=True)
class JobOptions:
    """A job's properties; "" for Slurm's defaults."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    time: str = ""
    cpus: str = ""
    memory: str = ""
    gpus: str = ""
    constraint: str = ""
    reservation: str = ""
    #: Lines of the batch script.
    lines: tuple[str, ...] = ()

    def words(self, name: str, comment: str) -> list[str]:
        """The options of sbatch, for a job of this name."""
        words = ["--no-requeue", "--nodes=1", "--ntasks=1", "--export=ALL"]
        words += [f"--job-name={name}", f"--comment={comment}"]
        if not any(re.match(r"#SBATCH\s+(-o|-e|--output|--error)\b", li) for li in self.lines):
            words.append("--output=/dev/null")
        for property_, option in PROPERTIES.items():
            if value := getattr(self, property_):
                words.append(f"--{option}={value}")
        return words


def check_property(place: str, name: str, value: str) -> str:
    """Check a property's value. Raises ConfigurationError that begins with `place`."""
    value = value.strip()
    if not value:
        return ""
    if name in _SIZES:
        fits = _size(name, value) is not None
    else:
        fits = bool((_CONSTRAINT if name == "constraint" else _NAMES).fullmatch(value))
    if not fits:
        needs = _FORMS.get(name, "a name that Slurm knows")
        raise ConfigurationError(f"{place} is {value!r}, must be {needs}")
    return value


def _size(name: str, value: str) -> float | None:
    """A value that has a limit, as a number; None if it cannot be read."""
    if name == "time":
        return read_seconds(value) or None
    if name == "cpus":
        return float(value) if value.isascii() and value.isdigit() and int(value) else None
    if name == "gpus":
        found = _GPUS.fullmatch(value)
        return float(found[1]) if found else None
    found = _MEMORY.fullmatch(value)
    if not found or not int(found[1]):
        return None
    return int(found[1]) * _MEBIBYTES[found[2].upper()]


Limits = Mapping[str, tuple[str, ...]]


def check_limits(limits: Mapping[str, Any]) -> Limits:
    """Check `slurm_limits`: the maximum of each property, or its list of values.

    Raises ConfigurationError.
    """
    checked = {}
    for name, value in limits.items():
        if name not in PROPERTIES:
            known = ", ".join(PROPERTIES)
            raise ConfigurationError(f"slurm_limits: unknown {name!r} (known: {known})")
        values = value if isinstance(value, (list, tuple)) else [value]
        texts = tuple(str(each).strip() for each in values)
        if not texts or (name in _SIZES and len(texts) > 1):
            raise ConfigurationError(f"slurm_limits: {name} must be one value, is {value!r}")
        for text in texts:
            if text != ANY:
                check_property(f"slurm_limits: {name}", name, text)
        checked[name] = texts
    return checked


def requested(request_env: Mapping[str, str]) -> dict[str, str]:
    """The properties in a request's KERNEL_SLURM_ variables and KERNEL_GPUS.

    Raises ConfigurationError.
    """
    asked = {}
    for variable, value in request_env.items():
        if variable.startswith(VARIABLE) and value.strip():
            name = variable.removeprefix(VARIABLE).lower()
            if name not in PROPERTIES:
                known = ", ".join(VARIABLE + each.upper() for each in PROPERTIES)
                raise ConfigurationError(f"unknown {variable} in the request\n(known: {known})")
            asked[name] = check_property(variable, name, value)
    gpus = request_env.get("KERNEL_GPUS", "").strip()
    if gpus and gpus != "0":
        asked.setdefault("gpus", check_property("KERNEL_GPUS", "gpus", gpus))
    if labels := request_env.get("KERNEL_HOST_LABELS", "").strip():
        raise ConfigurationError(
            f"KERNEL_HOST_LABELS is {labels!r}, but Slurm chooses the node\n"
            "To choose features of the node, set KERNEL_SLURM_CONSTRAINT."
        )
    return asked


def refuse_beyond(asked: Mapping[str, str], limits: Limits) -> None:
    """Raises UnauthorizedError if a request asks for more than the operator allows."""
    for name, value in asked.items():
        variable = VARIABLE + name.upper()
        allowed = limits.get(name, ())
        if not allowed:
            raise UnauthorizedError(
                f"{variable}: requests may not choose it here\n"
                f'To allow it, set slurm_limits, such as {{"{name}": ...}}.'
            )
        if ANY in allowed:
            continue
        if name in _SIZES:
            most, size = _size(name, allowed[0]), _size(name, value)
            if size is None or most is None or size > most:
                raise UnauthorizedError(f"{variable} is {value!r}, the most is {allowed[0]}")
            kind = allowed[0].rpartition(":")[0] if name == "gpus" else ""
            if kind and value.rpartition(":")[0] != kind:
                raise UnauthorizedError(f"{variable} is {value!r}, must be {kind}:number")
        elif not set(value.split(",")) <= set(allowed) and value not in allowed:
            raise UnauthorizedError(f"{variable} is {value!r}, must be one of {', '.join(allowed)}")


def with_request(options: JobOptions, asked: Mapping[str, str]) -> JobOptions:
    """The operator's options, with what the request asks for."""
    chosen: Any = asked
    return replace(options, **chosen)


def check_lines(lines: Sequence[Any]) -> tuple[str, ...]:
    """Check `slurm_lines`. Raises ConfigurationError."""
    for line in lines:
        if not isinstance(line, str) or "\n" in line or "\0" in line:
            raise ConfigurationError(f"slurm_lines: {line!r} is not a line of text")
    return tuple(lines)
