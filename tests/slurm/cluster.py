"""A real Slurm cluster on hosts of a rig: a controller that users log in to, and two nodes.

Slurm's programs are Debian's. Accounting is off, as on small clusters. The test's own machine is a
submit host too: `environ` makes it one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..conftest import eventually
from ..rig import Host

#: What runs on the hosts of a cluster all the time.
DAEMONS = {"munged", "slurmctld", "slurmscriptd", "slurmd"}
CPUS, MEMORY = 4, 2000

_CONF = """\
ClusterName=rig
SlurmctldHost={a.name}({a.address})
SlurmUser=root
AuthType=auth/munge
{auth}
StateSaveLocation=/tmp/slurm-state
SlurmdSpoolDir=/tmp/slurm-spool
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/run/slurmctld.log
SlurmdLogFile=/run/slurmd.log
ProctrackType=proctrack/linuxproc
{memory_limit}
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
AccountingStorageType=accounting_storage/none
DebugFlags=NO_CONF_HASH
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=2,sched_min_interval=0
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=10
MessageTimeout=5
KillWait=2
OverTimeLimit=0
MinJobAge=300
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
MpiDefault=none
NodeName={b.name} NodeAddr={b.address} CPUs={cpus} RealMemory={memory} Gres=gpu:fake:2
NodeName={c.name} NodeAddr={c.address} CPUs={cpus} RealMemory={memory}
PartitionName=DEFAULT DefMemPerCPU=300 PriorityTier=5 PreemptMode=OFF State=UP
PartitionName=main Nodes={b.name},{c.name} Default=YES MaxTime=INFINITE
PartitionName=short Nodes={b.name} MaxTime=1
PartitionName=low Nodes={b.name} PriorityTier=1 PreemptMode=CANCEL
PartitionName=high Nodes={b.name} PriorityTier=9
PartitionName=second Nodes={c.name}
PartitionName=drained Nodes={c.name} MaxTime=60 State=DRAIN
"""
#: Real Slurm takes any device for a GPU: it gives jobs their numbers, which is what we test.
_GRES = "NodeName={b.name} Name=gpu Type=fake File=/dev/null,/dev/zero\n"
_CGROUP = """\
CgroupPlugin=cgroup/v1
CgroupAutomount=no
ConstrainRAMSpace=yes
"""
#: The first node limits the memory of jobs, if this machine lets us make such groups. The second
#: one measures it, and ends a job that uses too much.
_LIMITED, _MEASURED = "TaskPlugin=task/cgroup", "JobAcctGatherParams=OverMemoryKill"
_GROUPS = Path("/sys/fs/cgroup/memory")
_START_SECONDS = 30
#: However this process ends, what it starts on this machine ends with it.
_WITH_US = ("setpriv", "--pdeathsig=KILL")


def unavailable() -> str:
    """Why this machine cannot have a cluster; empty if it can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    missing = [
        p for p in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(p, path=path)
    ]
    return f"no {', '.join(missing)} (on Debian: slurm-wlm, munge)" if missing else ""


class Slurm:
    """The cluster. `hosts`: the controller, then two nodes."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.controller, *self.nodes = hosts
        self.hosts = list(hosts)
        self._key = secrets.token_bytes(128)
        self._directory = Path(tempfile.mkdtemp(prefix="slurm-", dir="/var/tmp"))
        self._munged: subprocess.Popen[bytes] | None = None

    @property
    def limits_memory(self) -> bool:
        """Whether Slurm can limit the memory of jobs here."""
        return os.access(_GROUPS / "cgroup.procs", os.W_OK)

    @property
    def environ(self) -> dict[str, str]:
        """What makes this machine a submit host."""
        return {"SLURM_CONF": str(self._directory / "slurm.conf")}

    def open(self) -> None:
        a, b, c = self.hosts
        values = {"a": a, "b": b, "c": c, "cpus": CPUS, "memory": MEMORY, "auth": ""}
        limits = {b: _LIMITED if self.limits_memory else "", c: _MEASURED}
        for host in self.hosts:
            host.write("/run/slurm/gres.conf", _GRES.format(**values), user="root")
            host.write("/run/slurm/cgroup.conf", _CGROUP, user="root")
            if host is b and self.limits_memory:  # its own part: every cluster has a job 1
                group = _GROUPS / f"{self._directory.name}-{host.name}"
                group.mkdir()
                host.run(["mount", "--bind", str(group), str(_GROUPS)], user="root")
            host.write("/run/munge/munge.key", self._key, 0o600, user="root")
            conf = _CONF.format(**values, memory_limit=limits.get(host, ""))
            host.write("/run/slurm/slurm.conf", conf, user="root")
            host.run(["mount", "--bind", "/run/slurm", "/etc/slurm"], user="root")
            host.run(["chmod", "755", "/run/munge", "/run/slurm"], user="root")
            host.run([*_munge("/run/munge")], user="root")
        key = self._directory / "munge.key"
        key.touch(0o600)
        key.write_bytes(self._key)
        socket = self._directory / "munge.socket"
        values["auth"] = f"AuthInfo=socket={socket}"
        conf = _CONF.format(**values, memory_limit="")
        (self._directory / "slurm.conf").write_text(conf)
        self._directory.chmod(0o755)
        self._munged = subprocess.Popen(
            [*_WITH_US, *_munge(str(self._directory), str(socket)), "--foreground"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.start_controller()
        for host in self.nodes:
            self.start_node(host)
        eventually(lambda: self.idle() == len(self.nodes), _START_SECONDS)

    def idle(self) -> int:
        nodes = self.ask("sinfo", "--noheader", "--Node", "--partition=main", "--format=%T")
        return nodes.split().count("idle")

    def ask(self, *argv: str) -> str:
        """What a program of Slurm's prints on the controller."""
        return self.controller.run(argv, user="root", check=False)

    def start_controller(self) -> None:
        self.controller.run(["slurmctld"], user="root")
        eventually(lambda: "UP" in self.ask("scontrol", "ping"), _START_SECONDS)

    def start_node(self, host: Host) -> None:
        host.run(["slurmd"], user="root")

    def kill_node(self, host: Host) -> None:
        """Kill a node's slurmd. Its jobs run on."""
        _kill(host, "slurmd")

    def close(self) -> None:
        for host in self.hosts:
            _kill(host, *DAEMONS)
        if self._munged is not None:
            self._munged.terminate()
            self._munged.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
        for group in _GROUPS.glob(f"{self._directory.name}-*"):
            inner = sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True)
            for path in (*inner, group):
                with suppress(OSError):
                    path.rmdir()

    # -- looking at it -----------------------------------------------------------------------

    def jobs(self) -> list[str]:
        """The names of the jobs that wait or run."""
        return self.ask("squeue", "--noheader", "--format=%j").split()

    def states(self) -> list[str]:
        return self.ask("squeue", "--noheader", "--format=%T").split()

    def gone(self, seconds: float = 20) -> None:
        """Wait until nothing of anybody is left."""
        eventually(lambda: not self.jobs(), seconds)

    # -- faults ------------------------------------------------------------------------------

    @contextmanager
    def busy(self) -> Iterator[None]:
        """All CPUs of both nodes are taken by another job."""
        words = ["--parsable", "--nodes=2", "--exclusive", "--job-name=other", "--output=/dev/null"]
        job = self.ask("sbatch", *words, "--wrap=sleep 600").strip()
        eventually(lambda: self.ask("squeue", "-h", "-j", job, "-o", "%T").strip() == "RUNNING")
        try:
            yield
        finally:
            self.ask("scancel", job)
            eventually(lambda: "other" not in self.jobs(), 20)

    @contextmanager
    def lost(self) -> Iterator[None]:
        """The controller is down, and back afterwards. (One that is killed forgets the last
        seconds: jobs that have just started wait again.)
        """
        _kill(self.controller, "slurmctld", signum="TERM")
        try:
            yield
        finally:
            self.start_controller()


def left_on(hosts: Sequence[Host]) -> list[str]:
    """What is on the hosts of a cluster without jobs, beside the cluster itself."""
    left = []
    for host in hosts:
        left += [f"{host.name}: {p}" for p in host.processes() if not _is_daemon(p.argv)]
        left += [f"{host.name}: {f}" for f in host.files("/tmp") if "remote-provisioners" in f]
    return left


def _is_daemon(argv: tuple[str, ...]) -> bool:
    return bool(argv) and argv[0].rpartition("/")[2].strip(": ") in DAEMONS


def _munge(directory: str, socket: str = "/run/munge/munge.socket.2") -> list[str]:
    files = [f"--{name}-file={directory}/munge.{name}" for name in ("key", "log", "pid", "seed")]
    return ["/usr/sbin/munged", "--force", f"--socket={socket}", *files]


def _kill(host: Host, *daemons: str, signum: str = "KILL") -> None:
    def pids() -> list[str]:
        return [
            str(p.pid)
            for p in host.processes()
            if Path(p.argv[0] if p.argv else "").name in daemons
        ]

    host.run(["kill", f"-{signum}", *pids()], user="root", check=False)
    eventually(lambda: not pids())
