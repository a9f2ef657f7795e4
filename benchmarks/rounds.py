"""One round of one subject: every measure once, in a new process, on a host set back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .command import CommandFailed
from .driver import StepFailed, WorkerLost, WorkerProcess
from .hosts import read_memory
from .measures import Outcome
from .setting import KERNEL_NAME, Subject

MEMORY = ("memory_all", "memory_pss", "memory_private")


@dataclass(frozen=True)
class Plan:
    """How much is done in a round."""

    megabytes: int = 200
    starts: int = 4
    round_trips: int = 200
    warm_up: int = 20
    repeats: int = 3  # of what differs by much from one time to the next, and takes little
    many: int = 30
    idle: int = 8
    printed: int = 60  # megabytes of output while the loop's lag is measured


#: Over a delayed network, what takes messages to and fro.
DELAYED = Plan(starts=3, round_trips=10, warm_up=2)


@dataclass(frozen=True)
class Step:
    """A request to the worker, its limit in seconds, and what its figures are samples of."""

    name: str
    limit: float
    keys: dict[str, str]  # figure -> kind of sample
    arguments: dict[str, Any]
    # Whether the application and the hosts each have a core of their own, as they do in reality:
    # on the same cores, what is late is late because of the kernels' own work.
    apart: bool = False


def delayed_steps(subject: Subject) -> Iterator[Step]:
    plan = DELAYED
    yield _step("start", 90, {"info": "first_start"})
    trips = {"count": plan.round_trips, "warm_up": plan.warm_up}
    yield _step("round_trips", 60, {"median": "round_trip"}, **trips)
    yield _step("restart", 90, {"seconds": "restart"})
    for _ in range(plan.starts):
        keys = {"info": "start", "result": "result"}
        yield _step("start", 60, keys, settle=subject.settle)
        yield _step("shutdown", 60, {"seconds": "shutdown"})


def steps(plan: Plan, subject: Subject, extra: bool) -> Iterator[Step]:
    """`extra`: with what takes long and is not needed in each round."""
    step = _step
    yield step("start", 90, {"info": "first_start"})
    trips = {"count": plan.round_trips, "warm_up": plan.warm_up}
    for _ in range(plan.repeats):
        yield step("round_trips", 60, {"median": "round_trip"}, **trips)
    yield step("output", 120, {"seconds": "output"}, megabytes=plan.megabytes)
    yield step("interrupt", 30, {"seconds": "interrupt"})
    yield step("restart", 90, {"seconds": "restart"})
    yield step("shutdown", 60, {"seconds": "shutdown"})
    if len(subject.hosts) != 1:
        yield step("start", 90, {"info": "host_start"}, kernel_name=subject.other_name)
    for _ in range(plan.starts):
        keys = {"info": "start", "result": "result"}
        yield step("start", 60, keys, settle=subject.settle)
        yield step("shutdown", 60, {"seconds": "shutdown"})
    for _ in range(plan.repeats):
        yield step("death", 90, {"seconds": "death"})
    if not extra:
        return
    figures = ("starts_p99", "starts_max", "output_p99", "output_max")
    for kind in ("lag", *("apart",) * plan.repeats):
        lags = {figure: f"{kind}_{figure}" for figure in figures}
        apart = kind == "apart" and subject.host is not None
        yield step("lag", 120, lags, apart, count=6, megabytes=plan.printed)
    fairness = {"added": "fairness", "printed": "printed"}
    for _ in range(plan.repeats):
        yield step("fairness", 60, fairness, count=plan.round_trips)
    yield step("idle", 120, {name: name for name in MEMORY}, count=plan.idle)
    many = {"count": plan.many, "patience": 60, "kernel_name": subject.many_name}
    yield step("burst", 90, {"seconds": "burst"}, **many)
    if subject.host is None:
        yield step("in_a_row", 120, {"seconds": "in_a_row"}, count=plan.many)


def _step(
    name: str, limit: float, keys: dict[str, str], apart: bool = False, **arguments: Any
) -> Step:
    return Step(name, limit, keys, arguments, apart)


def run_round(
    subject: Subject, round_steps: Iterable[Step], outcome: Outcome, kernel_python: str, log: Path
) -> None:
    """Add one round's samples, or what prevented them. Nothing of the subject runs afterwards."""
    remaining = [
        step
        for step in round_steps
        if not any(outcome.is_hopeless(kind) for kind in step.keys.values())
    ]

    def reset() -> None:
        for host in subject.hosts:
            host.reset(kernel_python)

    pid, seen = 0, False  # no pid is known after a restart
    try:
        reset()
        with WorkerProcess(subject.python, KERNEL_NAME, subject.environ, log) as worker:
            while remaining:
                step = remaining[0]
                is_first = "first_start" in step.keys.values()
                try:
                    with apart(worker, subject) if step.apart else nullcontext():
                        figures = worker.ask(step.name, step.limit, **step.arguments)
                except StepFailed as error:
                    if is_first:
                        raise  # the other steps would each wait for a kernel in vain
                    _fail(outcome, [step], error)
                else:
                    if step.name == "idle":
                        figures = _memory(subject, figures["pids"])
                        outcome.template.append(figures.pop("template"))
                    _add(outcome, step, figures)
                    if subject.host is not None and is_first:
                        outcome.facts = subject.host.facts()
                    # shutdown_kernel() may return before the kernel has ended: that makes no
                    # shorter shutdown, and has to be seen beside the figure. Once a round.
                    if subject.host is not None and step.name == "shutdown" and pid and not seen:
                        outcome.outlived.append(subject.host.outlived(pid))
                        seen = True
                    if step.name in ("start", "restart"):
                        pid = int(figures.get("pid", 0))
                remaining.pop(0)
    except (StepFailed, WorkerLost, CommandFailed) as error:
        _fail(outcome, remaining, error)
    # What is left on the host must not run beside the next subject. If that fails, so does the
    # reset of the next round, which says so.
    with suppress(CommandFailed):
        reset()


@contextmanager
def apart(worker: WorkerProcess, subject: Subject) -> Iterator[None]:
    """The worker on the first core, its hosts on the last one."""
    cores = sorted(os.sched_getaffinity(0))

    def place(workers: list[int], of_hosts: list[int]) -> None:
        worker.run_on(workers)
        for host in subject.hosts:
            host.run_on(of_hosts)

    try:
        place(cores[:1], cores[-1:])
        yield
    finally:
        place(cores, cores)


def _memory(subject: Subject, pids: list[int]) -> dict[str, float]:
    """MB a kernel: what all processes of the host hold, and what the kernels' own do."""
    if subject.host is not None:
        found = subject.host.memory()
    else:
        found = {pid: read_memory(Path(f"/proc/{pid}/smaps_rollup").read_text()) for pid in pids}
    kernels = [found[pid] for pid in pids]
    return {
        "memory_all": sum(each.proportional for each in found.values()) / len(pids),
        "memory_pss": sum(each.proportional for each in kernels) / len(pids),
        "memory_private": sum(each.private for each in kernels) / len(pids),
        "template": sum(each.proportional for each in found.values() if each.is_template),
    }


def _add(outcome: Outcome, step: Step, figures: dict[str, float]) -> None:
    for figure, kind in step.keys.items():
        value = figures[figure]
        if kind == "output":
            value = step.arguments["megabytes"] / value
        elif kind == "printed":
            value /= 1e6
        elif kind not in MEMORY:
            value *= 1000
        outcome.samples[kind].append(value)


def _fail(outcome: Outcome, failed: list[Step], error: Exception) -> None:
    for step in failed:
        for kind in step.keys.values():
            outcome.failures[kind].append(str(error))
