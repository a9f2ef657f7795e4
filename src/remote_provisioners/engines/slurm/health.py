"""The doctor's questions to a cluster."""

from __future__ import annotations

from ...errors import ConfigurationError, UnreachableError
from .cluster import Cluster

_PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "srun")


async def version(cluster: Cluster) -> str:
    """Run each program that we use. Raises HostError."""
    found = [(await cluster.run([program, "--version"])).stdout for program in _PROGRAMS]
    return f"{', '.join(_PROGRAMS)}: {found[0].decode('utf-8', 'replace').strip()}"


async def ping(cluster: Cluster) -> str:
    """Ask the controller. Raises HostError."""
    said = (await cluster.run(["scontrol", "ping"])).stdout.decode("utf-8", "replace").strip()
    if " UP" not in said:
        raise UnreachableError(f"Slurm's controller does not answer ({said})")
    return said


async def partition(cluster: Cluster, names: str) -> str:
    """The nodes of the partitions, or of all. Raises HostError, ConfigurationError."""
    words = ["sinfo", "--noheader", "--format=%R|%a|%l|%D|%T"]
    done = await cluster.run([*words, *([f"--partition={names}"] if names else [])])
    lines = done.stdout.decode("utf-8", "replace").split("\n")
    rows = [fields for line in lines if len(fields := line.strip().split("|")) == 5]
    known = {row[0] for row in rows}
    missing = [name for name in names.split(",") if name and name not in known]
    if missing:
        raise ConfigurationError(f"Slurm has no partition {', '.join(missing)} (slurm_partition)")
    parts = []
    for name in sorted(known):
        own = [row for row in rows if row[0] == name]
        nodes = ", ".join(f"{row[3]} {row[4]}" for row in own)
        parts.append(f"{name}: {own[0][1]}, limit {own[0][2]}, nodes: {nodes}")
    return "\n".join(parts)
