"""Turn a kernelspec and a start request into data. Pure.

Nothing here is joined into a command line. A user's value is passed on unchanged or refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, UnauthorizedError
from ..placement.policies import Requirements
from ..protocol.conventions import LEASE_SECONDS, OUTPUT_DISK, OUTPUT_MEMORY, PAGE_VARIABLES

#: Modules whose kernels bind unix sockets when their connection file says so.
_IPC_MODULES = {"ipykernel", "ipykernel_launcher"}
#: A call in argv that is R's kernel, which does so as well.
_IPC_CALL = "IRkernel::main("
#: How long a kernel may take to bind unix sockets if we do not know whether it can: a part of its
#: launch timeout, and the maximum in seconds.
_TRIAL_SHARE, _TRIAL_SECONDS = 0.5, 30.0
_MINIMAL_PORT_RANGE = 1000
#: jupyter_server passes a kernel the name of its notebook in it; ipykernel's __session__.
SESSION_VARIABLE = "JPY_SESSION_NAME"


@dataclass(frozen=True)
class LaunchRequest:
    """A kernel to start. `argv` and `env` still contain placeholders, which the host fills in."""

    kernel_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    request_env: Mapping[str, str]
    cwd: tuple[str, ...]
    transport: str
    session: Mapping[str, Any] = field(repr=False)
    port_range: tuple[int, int]
    timeout: float
    #: The number of kernels like it that the host should keep warm.
    warm: int
    #: Bytes of output to keep while nobody listens, in memory and on disk.
    output: tuple[int, int]
    lease: float
    #: Seconds that it may idle while its server is away; 0: as long as its lease.
    left_idle: float
    requirements: Requirements
    resource_dir: Path | None
    reports_endpoints: bool
    #: Seconds after which the host ends the kernel if it has not bound its unix sockets, because
    #: we do not know whether it can (see known_transports.py); 0: no limit.
    trial: float = 0.0

    @property
    def pinned_host(self) -> str:
        """The host that the request names, "" if it names none."""
        return self.request_env.get("KERNEL_REMOTE_HOST", "").strip()

    def by(self, transport: str) -> LaunchRequest:
        """The same request for a kernel that is known to listen by `transport`."""
        return replace(self, transport=transport, trial=0.0)

    @property
    def to_record(self) -> dict[str, Any]:
        """What the next server needs to start the kernel again."""
        return {"env": dict(self.request_env), "cwd": (*self.cwd, None)[0]}


def request_environment(env: Mapping[str, str], kernel_id: str) -> dict[str, str]:
    """The variables of `env` that a host gets: KERNEL_ variables, SESSION_VARIABLE and Voila's."""
    has_page = "VOILA_BASE_URL" in env
    chosen = {
        name: str(value)
        for name, value in env.items()
        if name.startswith("KERNEL_")
        or name == SESSION_VARIABLE
        or (has_page and re.fullmatch(PAGE_VARIABLES, name))
    }
    chosen["KERNEL_ID"] = kernel_id
    return chosen


def build_request(
    *,
    kernel_id: str,
    argv: Sequence[str],
    spec_env: Mapping[str, str],
    resource_dir: str,
    request_env: Mapping[str, str],
    cwd: str | None,
    session: Mapping[str, Any],
    port_range: str,
    launch_timeout: float,
    warm: int = 0,
    output: tuple[int, int] = (OUTPUT_MEMORY, OUTPUT_DISK),
    lease: float = LEASE_SECONDS,
    left_idle: float = 0.0,
) -> LaunchRequest:
    """Build a request and check it. Raises ConfigurationError."""
    if not argv:
        raise ConfigurationError("the kernelspec's argv is empty")
    _refuse_unusable(argv, spec_env, request_env, cwd)
    lower, upper = parse_port_range(port_range)
    text = "\0".join([*argv, *spec_env.values()])
    travels = "{resource_dir}" in text or any(w.startswith(f"{resource_dir}/") for w in argv)
    reports = "{response_address}" in text
    knows_ipc = bool(_IPC_MODULES & set(argv)) or any(_IPC_CALL in word for word in argv)
    unknown = not knows_ipc and not reports and any("{connection_file}" in word for word in argv)
    ipc = knows_ipc or unknown or (reports and not upper)
    timeout = _launch_timeout(request_env, launch_timeout)
    directories = [request_env.get("KERNEL_WORKING_DIR", ""), cwd or ""]
    return LaunchRequest(
        kernel_id=kernel_id,
        argv=tuple(argv),
        env=dict(spec_env),
        request_env=dict(request_env),
        cwd=tuple(directory for directory in directories if directory),
        transport="ipc" if ipc else "tcp",
        session=session,
        port_range=(lower, upper),
        timeout=timeout,
        warm=warm,
        output=output,
        lease=lease,
        requirements=_requirements(request_env),
        left_idle=left_idle,
        resource_dir=Path(resource_dir) if resource_dir and travels else None,
        reports_endpoints=reports,
        trial=min(_TRIAL_SHARE * timeout, _TRIAL_SECONDS) if unknown else 0.0,
    )


def parse_port_range(text: str) -> tuple[int, int]:
    """Parse ``lower..upper``. ``0..0`` means any port. Raises ConfigurationError."""
    match = re.fullmatch(r"\s*(\d{1,5})\.\.(\d{1,5})\s*", text)
    if match is None:
        raise ConfigurationError(f"port_range {text!r} does not have the form lower..upper")
    lower, upper = int(match[1]), int(match[2])
    if lower == upper:
        return 0, 0
    if not 1024 <= lower < upper <= 65535:
        raise ConfigurationError(f"port_range {text!r}: ports are 1024 to 65535, lower first")
    if upper - lower + 1 < _MINIMAL_PORT_RANGE:
        raise ConfigurationError(
            f"port_range {text!r} has {upper - lower + 1} ports, needs {_MINIMAL_PORT_RANGE}"
        )
    return lower, upper


def authorize(user: str, server_user: str, authorized: set[str], unauthorized: set[str]) -> None:
    """Check KERNEL_USERNAME against the two lists. The second one takes precedence.

    A request without a name counts as the server's own user. The list of unauthorized users (by
    default root) does not apply to it, because whoever runs the server may run kernels. Raises
    UnauthorizedError.
    """
    if user and user in unauthorized:
        raise UnauthorizedError(
            f"user {user!r} (KERNEL_USERNAME) is not authorized to start kernels"
        )
    if authorized and (user or server_user) not in authorized:
        raise UnauthorizedError(
            f"user {user or server_user!r} (KERNEL_USERNAME) is not among the users authorized to "
            "start kernels"
        )


def _launch_timeout(request_env: Mapping[str, str], default: float) -> float:
    text = request_env.get("KERNEL_LAUNCH_TIMEOUT", "")
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(
            f"KERNEL_LAUNCH_TIMEOUT is {text!r}, must be a positive number of seconds"
        )
    return seconds


def _requirements(request_env: Mapping[str, str]) -> Requirements:
    labels = request_env.get("KERNEL_HOST_LABELS", "").split(",")
    text = request_env.get("KERNEL_GPUS", "").strip() or "0"
    if not re.fullmatch("[0-9]{1,5}", text):
        raise ConfigurationError(f"KERNEL_GPUS is {text!r}, must be a number of GPUs")
    return Requirements(frozenset(label.strip() for label in labels if label.strip()), int(text))


def _refuse_unusable(
    argv: Sequence[str],
    spec_env: Mapping[str, str],
    request_env: Mapping[str, str],
    cwd: str | None,
) -> None:
    """Refuse values that no process can get: NUL characters and invalid variable names."""
    places = [("argv", word) for word in argv] + [("the working directory", cwd or "")]
    for name, value in [*spec_env.items(), *request_env.items()]:
        if not isinstance(value, str):
            raise ConfigurationError(f"environment variable {name!r} is not text: {value!r}")
        if not name or "=" in name or "\0" in name:
            raise ConfigurationError(f"environment variable {name!r} has an invalid name")
        places.append((f"environment variable {name}", value))
    for place, value in places:
        if "\0" in value:
            raise ConfigurationError(f"{place} contains a NUL character: {value!r}")
