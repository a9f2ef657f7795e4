"""Slurm's states, reasons and refusals as sentences for users. Pure.

https://slurm.schedmd.com/job_reason_codes.html and `man squeue`, JOB STATE CODES.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

_PENDING = {
    "": "is waiting to be scheduled",
    "None": "is waiting to be scheduled",
    "Resources": "is waiting for resources in partition {partition}",
    "Priority": "is waiting behind other jobs in partition {partition}",
    "BeginTime": "may not begin yet",
    "Dependency": "is waiting for another job",
    "Reservation": "is waiting for its reservation to begin",
    "Licenses": "is waiting for a license",
    "JobHeldAdmin": "is held by an administrator",
    "JobHeldUser": "is held: release it by `scontrol release`",
    "NodeDown": "is waiting for a node that is down",
    "ReqNodeNotAvail": "is waiting: its nodes are down, drained or reserved",
    "PartitionDown": "is waiting: partition {partition} is down",
    "PartitionInactive": "is waiting: partition {partition} takes no jobs now",
    "Prolog": "is waiting: its node is being prepared",
    "Cleaning": "is waiting: Slurm cleans up after its former run",
}
#: With these reasons a job would wait for ever.
_HOPELESS = {
    "PartitionTimeLimit": "it asks for more time than partition {partition} allows (slurm_time)",
    "PartitionNodeLimit": "it asks for more nodes than partition {partition} allows",
    "PartitionConfig": "partition {partition} does not allow what it asks for, such as its time",
    "BadConstraints": "no node fulfils its constraint (slurm_constraint)",
    "InvalidAccount": "its account may not be used (slurm_account)",
    "InvalidQOS": "its QOS may not be used (slurm_qos)",
    "AccountNotAllowed": "its account may not use partition {partition} (slurm_account)",
    "QOSNotAllowed": "its QOS may not use partition {partition} (slurm_qos)",
    "AssociationJobLimit": "its account may run no more jobs",
    "ReservationDeleted": "its reservation is gone (slurm_reservation)",
}
_ENDS = {
    "TIMEOUT": "its time limit of {limit} was reached",
    "OUT_OF_MEMORY": "it used more memory than it asked for",
    "PREEMPTED": "a job with a higher priority took its place",
    "NODE_FAIL": "its node {node} failed",
    "CANCELLED": "it was cancelled (scancel, or by an administrator)",
    "DEADLINE": "its deadline was reached",
    "BOOT_FAIL": "its node {node} did not boot",
    "SUSPENDED": "it is suspended",
    "REVOKED": "another cluster took it",
}
_ADVICE = {
    "TIMEOUT": "Restart the kernel for a new job. For a longer time, set slurm_time.",
    "OUT_OF_MEMORY": "Restart the kernel for a new job. For more memory, set slurm_memory.",
}
#: Exit codes of the job's script (script.py), and of the shell that runs it.
_EXITS = {
    126: "the interpreter on its node cannot be run\nSet the option `python` to another one.",
    127: "its node does not have the interpreter\nSet the option `python` to another one.",
    78: "the interpreter on its node is older than 3.8\nSet the option `python` to another one.",
}
#: While Slurm ends a job, the reason shows the job's final state.
_COMPLETING = {"TimeLimit": "TIMEOUT", "OutOfMemory": "OUT_OF_MEMORY", "NodeFail": "NODE_FAIL"}
_FINAL = frozenset([*_ENDS, "COMPLETED", "FAILED"]) - {"SUSPENDED"}
_SIGKILL = 9
_UNCONTACTED = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Connection refused|Zero Bytes were"
    r"|Unable to establish (?:configuration|controller)|Could not establish a configuration"
    r"|fetch_config|Protocol authentication error|[Mm]unge",
)
_PREFIX = re.compile(r"^\w+: (?:error|fatal): ")
GONE = "GONE"


@dataclass(frozen=True)
class Job:
    """A job as squeue and scontrol show it."""

    id: str
    state: str
    reason: str = ""
    partition: str = ""
    #: The expected or actual start, as Slurm writes it; "" if unknown.
    start: str = ""
    node: str = ""
    #: Its time limit, and the time that is left, as Slurm writes them.
    limit: str = ""
    left: str = ""
    #: Exit code and signal; only scontrol tells.
    exit_code: int = 0
    signal: int = 0

    @property
    def name(self) -> str:
        return f"job {self.id}"

    @property
    def waits(self) -> bool:
        """Whether it has no node yet."""
        return self.state in ("PENDING", "CONFIGURING", "REQUEUED", "RESIZING", "SUSPENDED")

    @property
    def runs(self) -> bool:
        return self.state == "RUNNING"

    @property
    def over(self) -> bool:
        """Whether it has ended, or its end is near."""
        return self.state in _FINAL or self.state in ("COMPLETING", GONE)

    @property
    def final(self) -> bool:
        """Whether Slurm has said how it ended."""
        return self.state in _FINAL or self.state == GONE

    @property
    def hopeless(self) -> str:
        """Why it will never start; "" if it may."""
        said = _HOPELESS.get(self.reason, "") if self.state == "PENDING" else ""
        return said.format(partition=self.partition)

    def progress(self, today: datetime.date | None = None) -> str:
        """Its state, in words for users."""
        if self.state == "CONFIGURING":
            return f"{self.name} waits until its node {self.node} has booted"
        if self.state == "PENDING":
            said = self._waiting()
            start = _clock(self.start, today or datetime.date.today())
            return f"{self.name} {said}" + (f"; estimated start {start}" if start else "")
        if self.runs:
            return f"{self.name} runs on {self.node}, and its kernel starts"
        return f"{self.name} is {self.state.lower()}"

    def _waiting(self) -> str:
        known = _PENDING.get(self.reason) or _PENDING.get(self.reason.partition(",")[0])
        if known:
            return known.format(partition=self.partition)
        if self.reason.startswith("Nodes required for job are DOWN"):
            return _PENDING["ReqNodeNotAvail"]
        if self.reason.startswith("QOS"):
            return f"is waiting for a limit of its QOS ({self.reason})"
        if self.reason.startswith(("Assoc", "Max")):
            return f"is waiting for a limit of its account ({self.reason})"
        return f"is waiting ({self.reason})"

    @property
    def end(self) -> str:
        """Why it ended: a sentence, and perhaps advice on the next line."""
        if hopeless := self.hopeless:
            return f"Slurm does not run {self.name}: {hopeless}"
        state = _COMPLETING.get(self.reason, self.state)
        if state in _ENDS:
            why = _ENDS[state].format(limit=self.limit or "?", node=self.node or "?")
            advice = f"\n{_ADVICE[state]}" if state in _ADVICE else ""
            return f"Slurm ended {self.name}: {why}{advice}"
        if state == "FAILED" and self.exit_code in _EXITS:
            return f"{self.name} failed: {_EXITS[self.exit_code]}"
        if state == "FAILED" and self.signal == _SIGKILL:
            return (
                f"{self.name} was killed on {self.node or 'its node'}: "
                f"perhaps it used more memory than it asked for\n{_ADVICE['OUT_OF_MEMORY']}"
            )
        if state == "FAILED":
            how = f"signal {self.signal}" if self.signal else f"exit code {self.exit_code}"
            return (
                f"{self.name} failed with {how} on {self.node or 'its node'}\n"
                "To see its output, add `#SBATCH --output=FILE` to slurm_lines."
            )
        if state == GONE:
            return f"Slurm does not know {self.name} any more: it ended a while ago"
        return f"{self.name} is {state.lower()}"


def _clock(start: str, today: datetime.date) -> str:
    """A start in words: 14:20, or 28 Nov 14:20; "" if it is unknown."""
    try:
        at = datetime.datetime.fromisoformat(start)
    except ValueError:
        return ""
    return f"{at:%H:%M}" if at.date() == today else f"{at.day} {at:%b %H:%M}"


#: The columns that `read_queue` reads. The id comes first, and no column contains the separator.
QUEUE_FORMAT = "%i|%T|%r|%P|%S|%N|%l|%L"
_COLUMNS = ("reason", "partition", "start", "node", "limit", "left")


def read_queue(printed: str) -> dict[str, Job]:
    """The jobs that squeue prints, by id."""
    jobs = {}
    for line in printed.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == QUEUE_FORMAT.count("|") + 1 and fields[0].isdigit():
            id_, state, *more = fields
            known: Any = dict(zip(_COLUMNS, more, strict=True))
            jobs[id_] = Job(id_, state, **known)
    return jobs


_FIELDS = re.compile(r"(?:^|\s)(\w+)=(\S*)")


def read_job(printed: str) -> Job | None:
    """The job that `scontrol -o show job` prints."""
    fields = dict(_FIELDS.findall(printed))
    if "JobId" not in fields or "JobState" not in fields:
        return None
    code, _, signal = fields.get("ExitCode", "0:0").partition(":")
    return Job(
        fields["JobId"],
        fields["JobState"],
        fields.get("Reason", ""),
        fields.get("Partition", ""),
        fields.get("StartTime", ""),
        fields.get("NodeList", "").replace("(null)", ""),
        fields.get("TimeLimit", ""),
        exit_code=int(code or 0),
        signal=int(signal or 0),
    )


def read_seconds(text: str) -> int | None:
    """A time as Slurm writes it: [D-]H:M:S, M:S, D-H, D-H:M, or minutes; None if it is no time."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match is None:
        return None
    days, a, b, c = match.groups()
    first, second, third = int(a), int(b or 0), int(c or 0)
    if days is not None:
        return int(days) * 86400 + first * 3600 + second * 60 + third
    if c is not None:
        return first * 3600 + second * 60 + third
    return first * 60 + second


def away(stderr: str) -> str:
    """The line about a controller that does not answer; "" if there is none."""
    for line in stderr.splitlines():
        if _UNCONTACTED.search(line):
            return _PREFIX.sub("", line.strip())
    return ""


def refusal(stderr: str) -> str:
    """Why sbatch did not submit a job, in Slurm's own words."""
    lines = [_PREFIX.sub("", line.strip()) for line in stderr.splitlines() if line.strip()]
    lines = [line.removeprefix("Batch job submission failed: ") for line in lines]
    return "; ".join(dict.fromkeys(lines[-3:])) or "it printed nothing"
