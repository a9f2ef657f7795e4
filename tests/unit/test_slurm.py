"""What Slurm says, as sentences; and what a kernel may ask it for."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from remote_provisioners.engines.deadline import end_text
from remote_provisioners.engines.slurm.reasons import (
    Job,
    away,
    read_job,
    read_queue,
    read_seconds,
    refusal,
)
from remote_provisioners.engines.slurm.request import (
    JobOptions,
    check_limits,
    check_lines,
    check_property,
    refuse_beyond,
    requested,
    with_request,
)
from remote_provisioners.engines.slurm.script import batch_script
from remote_provisioners.errors import ConfigurationError, UnauthorizedError

TODAY = datetime.date(2026, 11, 27)


@pytest.mark.parametrize(
    ("state", "reason", "start", "text"),
    [
        ("PENDING", "None", "N/A", "job 7 is waiting to be scheduled"),
        (
            "PENDING",
            "Resources",
            "2026-11-27T14:20:00",
            "job 7 is waiting for resources in partition gpu; estimated start 14:20",
        ),
        (
            "PENDING",
            "Priority",
            "2026-11-28T03:00:00",
            "job 7 is waiting behind other jobs in partition gpu; estimated start 28 Nov 03:00",
        ),
        (
            "PENDING",
            "ReqNodeNotAvail, UnavailableNodes:n[1-2]",
            "N/A",
            "job 7 is waiting: its nodes are down, drained or reserved",
        ),
        (
            "PENDING",
            "QOSMaxJobsPerUserLimit",
            "",
            "job 7 is waiting for a limit of its QOS (QOSMaxJobsPerUserLimit)",
        ),
        (
            "PENDING",
            "AssocGrpCpuLimit",
            "",
            "job 7 is waiting for a limit of its account (AssocGrpCpuLimit)",
        ),
        ("PENDING", "FedJobLock", "", "job 7 is waiting (FedJobLock)"),
        ("CONFIGURING", "None", "", "job 7 waits until its node n1 has booted"),
        ("RUNNING", "None", "", "job 7 runs on n1, and its kernel starts"),
    ],
)
def test_what_a_start_waits_for(state: str, reason: str, start: str, text: str) -> None:
    job = Job("7", state, reason, "gpu", start, "n1")
    assert job.progress(TODAY) == text


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (
            Job("7", "TIMEOUT", "TimeLimit", limit="01:00:00"),
            "Slurm ended job 7: its time limit of 01:00:00 was reached\n",
        ),
        (Job("7", "COMPLETING", "TimeLimit", limit="5"), "Slurm ended job 7: its time limit of 5"),
        (Job("7", "OUT_OF_MEMORY"), "Slurm ended job 7: it used more memory than it asked for\n"),
        (Job("7", "PREEMPTED"), "Slurm ended job 7: a job with a higher priority took its place"),
        (Job("7", "NODE_FAIL", node="n1"), "Slurm ended job 7: its node n1 failed"),
        (Job("7", "CANCELLED"), "Slurm ended job 7: it was cancelled (scancel, or by"),
        (Job("7", "FAILED", exit_code=127), "job 7 failed: its node does not have the interp"),
        (Job("7", "FAILED", signal=6, node="n1"), "job 7 failed with signal 6 on n1\n"),
        (
            Job("7", "FAILED", signal=9, node="n1"),
            "job 7 was killed on n1: perhaps it used more memory than it asked for\n",
        ),
        (Job("7", "GONE"), "Slurm does not know job 7 any more"),
        (
            Job("7", "PENDING", "PartitionTimeLimit", "gpu"),
            "Slurm does not run job 7: it asks for more time than partition gpu allows",
        ),
    ],
)
def test_why_a_job_ended(job: Job, text: str) -> None:
    assert job.end.startswith(text)
    assert all(len(line) <= 90 for line in job.end.splitlines())


def test_squeue_is_read() -> None:
    printed = "12|RUNNING|None|gpu|2026-11-27T14:20:00|n1|2:00:00|1:59:10\nslurm_load_jobs error\n"
    (job,) = read_queue(printed).values()
    assert (job.id, job.state, job.node, job.left) == ("12", "RUNNING", "n1", "1:59:10")
    assert job.runs
    assert not job.waits
    assert not job.over


def test_scontrol_is_read() -> None:
    job = read_job(
        "JobId=12 JobName=a=b JobState=FAILED Reason=NonZeroExitCode ExitCode=127:0 "
        "TimeLimit=00:05:00 Partition=gpu NodeList=n1 Command=(null)"
    )
    assert job is not None
    assert (job.exit_code, job.node, job.limit, job.final) == (127, "n1", "00:05:00", True)
    assert read_job("slurm_load_jobs error: Invalid job id specified") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 300),
        ("5:30", 330),
        ("1:00:00", 3600),
        ("1-2", 93600),
        ("1-2:30", 95400),
        ("1-02:03:04", 93784),
        ("UNLIMITED", None),
        ("", None),
        ("-5", None),
    ],
)
def test_times(text: str, seconds: int | None) -> None:
    assert read_seconds(text) == seconds


def test_refusals_in_slurms_words() -> None:
    said = (
        "sbatch: error: invalid partition specified: nope\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
    )
    assert refusal(said) == "invalid partition specified: nope; Invalid partition name specified"
    assert not away(said)
    assert away("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("partition", "gpu; rm"),
        ("partition", "-x"),
        ("account", "$(id)"),
        ("time", "tomorrow"),
        ("time", "0"),
        ("cpus", "0"),
        ("cpus", "2.5"),
        ("memory", "16 apples"),
        ("memory", "0"),
        ("gpus", "a100:"),
        ("constraint", "a;b"),
    ],
)
def test_bad_values_get_one_clear_error(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^slurm_{name} is .*, must be "):
        check_property(f"slurm_{name}", name, value)


GOOD = {
    "partition": "gpu,cpu",
    "time": "1-12:00:00",
    "cpus": "8",
    "memory": "16G",
    "gpus": "a100:2",
    "constraint": "a100&nvlink|(v100*2)",
}


def test_options_are_single_words_of_sbatch() -> None:
    for name, value in GOOD.items():
        assert check_property(name, name, value) == value
    words = JobOptions(**GOOD, lines=()).words("kernel-1", "a comment; with $(id)")
    assert "--comment=a comment; with $(id)" in words
    assert {"--partition=gpu,cpu", "--mem=16G", "--gpus=a100:2", "--cpus-per-task=8"} < {*words}
    assert "--output=/dev/null" in words
    lines = check_lines(["#SBATCH --output=/home/me/log"])
    assert "--output=/dev/null" not in JobOptions(lines=lines).words("kernel-1", "")


def test_a_request_goes_first() -> None:
    env = {"KERNEL_SLURM_TIME": "5", "KERNEL_GPUS": "1", "KERNEL_ID": "x"}
    asked = requested(env)
    assert asked == {"time": "5", "gpus": "1"}
    assert with_request(JobOptions(time="60", partition="gpu"), asked) == JobOptions(
        time="5", gpus="1", partition="gpu"
    )
    with pytest.raises(ConfigurationError, match="KERNEL_SLURM_CONSTRAINT"):
        requested({"KERNEL_HOST_LABELS": "a100"})


LIMITS: dict[str, Any] = {
    "time": "8:00:00",
    "memory": "64G",
    "gpus": "a100:2",
    "partition": ["gpu", "cpu"],
    "account": "*",
}


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("time", "8:00:00", True),
        ("time", "481", False),
        ("memory", "65536", True),
        ("memory", "65G", False),
        ("gpus", "a100:2", True),
        ("gpus", "a100:3", False),
        ("gpus", "2", False),
        ("partition", "cpu", True),
        ("partition", "cpu,gpu", True),
        ("partition", "cpu,big", False),
        ("account", "any", True),
        ("qos", "high", False),
    ],
)
def test_limits_of_requests(name: str, value: str, allowed: bool) -> None:
    limits = check_limits(LIMITS)
    if allowed:
        refuse_beyond({name: value}, limits)
    else:
        with pytest.raises(UnauthorizedError, match=f"KERNEL_SLURM_{name.upper()}"):
            refuse_beyond({name: value}, limits)


@pytest.mark.parametrize("limits", [{"colour": "red"}, {"time": "soon"}, {"cpus": [1, 2]}])
def test_bad_limits(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="slurm_limits"):
        check_limits(limits)


def test_the_script() -> None:
    """Only the operator's own lines are read by a shell, in a login shell if they are commands."""
    plain = batch_script("/tmp/x", "", []).decode()
    assert plain.startswith("#!/bin/sh\nexec python3 -I -S - <<'")
    lines = ["#SBATCH --exclusive", "module load python"]
    script = batch_script("/tmp/x", "~/my env/python", lines).decode()
    assert script.startswith(
        "#!/bin/bash -l\n#SBATCH --exclusive\nmodule load python\n"
        "exec \"$HOME\"/'my env/python' -I -S - <<'"
    )


@pytest.mark.parametrize(
    ("left", "text"), [(600.4, "10 minutes"), (119, "2 minutes"), (45, "45 seconds")]
)
def test_the_announcement(left: float, text: str) -> None:
    assert end_text("Slurm", left).startswith(f"Slurm ends this kernel in {text} (")
