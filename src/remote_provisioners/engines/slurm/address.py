"""A job's address."""

from __future__ import annotations

from dataclasses import dataclass

from ...placement.host_address import InnerAddress


@dataclass(frozen=True)
class JobAddress(InnerAddress):
    """A job of Slurm."""

    job: str = ""

    connector = "engines.slurm.connection:connect_job"
