"""SlurmProvisioner: kernels in jobs of a Slurm cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from traitlets import Unicode

from ...contract import RemoteProvisioner
from ...errors import ConfigurationError
from ...options.kinds import Flag, Lines, Seconds, Table, Text, Way
from ...options.launch_request import LaunchRequest
from ...placement.host_address import HostAddress, parse_address
from ...placement.inventory import HostSpec, spec_for_user
from ...placement.placer import Placer
from ...placement.way_in import WayOptions, check_connect
from ...user import user_name
from ..placer import EnginePlacer
from .engine import SlurmEngine
from .request import (
    PROPERTIES,
    JobOptions,
    check_limits,
    check_lines,
    check_property,
    refuse_beyond,
    requested,
    with_request,
)


class SlurmProvisioner(RemoteProvisioner):
    """Starts each kernel in a job of its own."""

    slurm_login = Text(
        "",
        help="""The login node, such as alice@login1. It must have sbatch, squeue, scancel, scontrol
        and srun. {username} is replaced with KERNEL_USERNAME. Empty: this machine.""",
    ).tag(config=True)

    connect = Way(
        default_value="",
        help="""How to reach slurm_login: asyncssh, openssh (the ssh program), or a command as a
        list of words. Empty: asyncssh, or openssh where ~/.ssh/config needs the ssh program.""",
    ).tag(config=True)

    strict_host_keys = Flag(
        False,
        help="""If true, the ssh program checks slurm_login's key with connect = "openssh" even if
        ~/.ssh/config disables the check.""",
    ).tag(config=True)

    python = Text(
        "",
        help="""The interpreter on the nodes, 3.8 or later. It runs the agent, and replaces
        `python` in the kernelspec's argv. Empty: python3.""",
    ).tag(config=True)

    slurm_partition = Text("", help="The partition of the jobs, or several, comma-separated.").tag(
        config=True
    )
    slurm_account = Text("", help="The account that pays for the jobs.").tag(config=True)
    slurm_qos = Text("", help="The quality of service of the jobs.").tag(config=True)
    slurm_time = Text(
        "",
        help="""The time limit of a job: minutes, H:M:S or D-H:M:S. Users get a warning 10 and 2
        minutes before its end. Empty: the partition's limit.""",
    ).tag(config=True)
    slurm_cpus = Text("", help="The number of CPUs of a job.").tag(config=True)
    slurm_memory = Text("", help="The memory of a job in MiB, or with a unit, such as 16G.").tag(
        config=True
    )
    slurm_gpus = Text("", help="The GPUs of a job: a number, or type:number.").tag(config=True)
    slurm_constraint = Text(
        "", help="The features that a job's node must have, such as a100&nvlink."
    ).tag(config=True)
    slurm_reservation = Text("", help="The reservation that jobs use.").tag(config=True)

    slurm_lines = Lines(
        trait=Unicode(),
        help="""More lines for the batch script, as a list: #SBATCH lines, and shell commands that
        prepare the kernel's environment, such as `module load python`. They run in a login
        shell.""",
    ).tag(config=True)

    slurm_limits = Table(
        help="""What a request may choose with KERNEL_SLURM_ variables: a maximum of time, cpus,
        memory and gpus, and a list of partitions, accounts and so on. "*" allows everything. For
        example {"time": "8:00:00", "gpus": 2, "partition": ["gpu", "cpu"]}. A request may choose
        no other properties. The server's own environment may choose everything.""",
    ).tag(config=True)

    slurm_queue_timeout = Seconds(
        600.0,
        help="""Seconds that a job may wait in Slurm's queue. After that the job is cancelled and
        the start fails. launch_timeout begins when the job runs.""",
    ).tag(config=True)

    def _make_placer(self) -> Placer:
        return EnginePlacer(self, SlurmEngine)

    def _check_options(self) -> None:
        super()._check_options()
        self._options()
        check_limits(self.slurm_limits)
        self._login()
        if not 0 < self.slurm_queue_timeout < float("inf"):
            raise ConfigurationError(
                f"slurm_queue_timeout is {self.slurm_queue_timeout!r}, must be a positive number "
                "of seconds"
            )

    def check_request(self, request_env: Mapping[str, str]) -> None:
        """Check the request against the limits. Raises ConfigurationError, UnauthorizedError."""
        asked = requested(request_env)
        own = requested({n: v for n, v in os.environ.items() if n in request_env})
        chosen = {name: value for name, value in asked.items() if own.get(name) != value}
        refuse_beyond(chosen, check_limits(self.slurm_limits))

    def engine(self, request: LaunchRequest | None) -> SlurmEngine:
        """Slurm for this request. Raises ConfigurationError."""
        asked = requested(request.request_env) if request is not None else {}
        options = with_request(self._options(), asked)
        engine = SlurmEngine(self._login(), options, self.python)
        engine.queue_seconds = self.slurm_queue_timeout
        return engine

    def _options(self) -> JobOptions:
        values = {
            name: check_property(f"slurm_{name}", name, getattr(self, f"slurm_{name}"))
            for name in PROPERTIES
        }
        return JobOptions(**values, lines=check_lines(self.slurm_lines))

    def _login(self) -> HostAddress:
        if not self.slurm_login:
            return HostAddress("localhost")
        options: Any = WayOptions(
            connect=check_connect("connect", self.connect), strict_host_keys=self.strict_host_keys
        )
        spec = HostSpec(self.slurm_login, parse_address(self.slurm_login))
        return spec_for_user(spec, options, self.username or user_name()).address
