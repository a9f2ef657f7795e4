"""One round of one subject: every measure once, in a new process, on a host set back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .command import CommandFailed
from .driver import StepFailed, WorkerLost, WorkerProcess
from .measures import Outcome
from .setting import Subject


@dataclass(frozen=True)
class Plan:
    """How much is done in a round."""

    megabytes: int = 200
    starts: int = 4
    round_trips: int = 200
    warm_up: int = 20
    burst: int = 0


@dataclass(frozen=True)
class Step:
    """A request to the worker, its limit in seconds, and what its figures are samples of."""

    name: str
    limit: float
    keys: dict[str, str]  # figure -> kind of sample
    arguments: dict[str, int]


def steps(plan: Plan, burst: bool) -> Iterator[Step]:
    def step(name: str, limit: float, keys: dict[str, str], **arguments: int) -> Step:
        return Step(name, limit, keys, arguments)

    yield step("start", 90, {"info": "first_start"})
    yield step(
        "round_trips",
        60,
        {"median": "round_trip"},
        count=plan.round_trips,
        warm_up=plan.warm_up,
    )
    yield step("output", 120, {"seconds": "output"}, megabytes=plan.megabytes)
    yield step("interrupt", 30, {"seconds": "interrupt"})
    yield step("restart", 90, {"seconds": "restart"})
    yield step("shutdown", 60, {"seconds": "shutdown"})
    for _ in range(plan.starts):
        yield step("start", 60, {"info": "start", "result": "result"})
        yield step("shutdown", 60, {"seconds": "shutdown"})
    yield step("death", 90, {"seconds": "death"})
    if burst and plan.burst:
        yield step("burst", 150, {"seconds": "burst"}, count=plan.burst, patience=120)


def run_round(
    subject: Subject,
    plan: Plan,
    burst: bool,
    outcome: Outcome,
    kernel_python: str,
    log: Path,
) -> None:
    """Add one round's samples, or what prevented them. Nothing of the subject runs afterwards."""
    remaining = [
        step
        for step in steps(plan, burst)
        if not any(outcome.is_hopeless(kind) for kind in step.keys.values())
    ]

    def reset() -> None:
        if subject.host is not None:
            subject.host.reset(kernel_python)

    pid, seen = 0, False  # no pid is known after a restart
    try:
        reset()
        with WorkerProcess(subject.python, subject.kernel_name, subject.environ, log) as worker:
            while remaining:
                step = remaining[0]
                is_first = "first_start" in step.keys.values()
                try:
                    figures = worker.ask(step.name, step.limit, **step.arguments)
                except StepFailed as error:
                    if is_first:
                        raise  # the other steps would each wait for a kernel in vain
                    _fail(outcome, [step], error)
                else:
                    _add(outcome, step, figures, plan)
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


def _add(outcome: Outcome, step: Step, figures: dict[str, float], plan: Plan) -> None:
    for figure, kind in step.keys.items():
        seconds = figures[figure]
        value = plan.megabytes / seconds if kind == "output" else seconds * 1000
        outcome.samples[kind].append(value)


def _fail(outcome: Outcome, failed: list[Step], error: Exception) -> None:
    for step in failed:
        for kind in step.keys.values():
            outcome.failures[kind].append(str(error))
