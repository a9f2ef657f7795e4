"""Measure the subjects and print the table: ``python -m benchmarks`` from the root."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.rig import Rig, open_rig

from .command import CommandFailed
from .hosts import Host
from .machine import describe
from .measures import Outcome
from .plot import plot
from .rounds import Plan, delayed_steps, run_round, steps
from .setting import Setting, Subject, kernel_python
from .subjects import DELAYED, MAKERS, hosts_of
from .table import as_data, render

HERE = Path(__file__).parent
EXTRA_ROUNDS = 2
DELAYS_MS = (20, 100)  # there and back
NOTES = "\n## Notes\n"  # written by hand, below what is measured


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--subjects",
        type=lambda text: text.split(","),
        default=list(MAKERS),
        help=f"comma-separated, of {', '.join(MAKERS)}; all by default",
    )
    parser.add_argument("--rounds", type=int, help="5 by default")
    parser.add_argument("--small", action="store_true", help="20 MB of output instead of 200")
    parser.add_argument("--quick", action="store_true", help="small, two rounds")
    parser.add_argument(
        "--write", action="store_true", help="write RESULTS.md, results.svg, results.json too"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=HERE.parent / ".bench",
        help="where virtual environments are kept; the hosts must see it",
    )
    options = parser.parse_args(argv)
    unknown = set(options.subjects) - set(MAKERS)
    if unknown:
        parser.error(f"unknown subject {sorted(unknown)[0]!r} (known: {', '.join(MAKERS)})")
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.small = options.small or options.quick
    return options


def measure(
    options: argparse.Namespace, setting: Setting, delayed: Mapping[int, Setting]
) -> tuple[dict[str, Outcome], dict[int, dict[str, Outcome]], dict[str, str]]:
    """Every subject once in each round, in an order that changes from round to round."""
    outcomes: dict[str, Outcome] = {}
    subjects = make_subjects(options.subjects, setting, outcomes)
    late_outcomes: dict[int, dict[str, Outcome]] = {delay: {} for delay in delayed}
    late_names = [name for name in options.subjects if name in DELAYED]
    late = {
        delay: make_subjects(late_names, late_setting, late_outcomes[delay])
        for delay, late_setting in delayed.items()
    }
    plan = Plan(megabytes=20 if options.small else 200)
    machine = describe(setting, subjects, options.rounds)
    for number in range(options.rounds):
        extra = number < (1 if options.quick else EXTRA_ROUNDS)
        for subject in turned(subjects, number):
            say(f"round {number + 1} of {options.rounds}: {subject.name}")
            log = setting.scratch / f"{subject.name}.log"
            todo = steps(plan, subject, extra)
            run_round(subject, todo, outcomes[subject.name], setting.kernel_python, log)
        for delay, late_subjects in late.items() if extra else ():
            for subject in turned(late_subjects, number):
                say(f"round {number + 1} of {options.rounds}: {subject.name}, {delay} ms away")
                outcome = late_outcomes[delay][subject.name]
                log = delayed[delay].scratch / f"{subject.name}.log"
                run_round(subject, delayed_steps(subject), outcome, setting.kernel_python, log)
    return outcomes, late_outcomes, machine


def make_subjects(
    names: list[str], setting: Setting, outcomes: dict[str, Outcome]
) -> list[Subject]:
    """The subjects that could be made; for the others, the outcome says why not."""
    subjects = []
    for name in names:
        outcomes[name] = Outcome()
        try:
            subjects.append(MAKERS[name](setting, hosts_of(name, setting.hosts)))
        except CommandFailed as error:
            outcomes[name].failures["first_start"].append(str(error))
    return subjects


def turned(subjects: list[Subject], number: int) -> list[Subject]:
    turn = number % len(subjects) if subjects else 0
    return subjects[turn:] + subjects[:turn]


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr)


def away(setting: Setting, rig: Rig, delay: int, stack: ExitStack) -> Setting:
    """The same hosts, as many milliseconds away, there and back; of the fleet the first only."""
    ends = []
    for host in (rig.hosts[0], rig.hosts[-1]):
        relay = stack.enter_context(rig.relay(host, delay / 2000))
        ends.append(Host(host, rig.ssh, relay))
        ends[-1].reset(setting.kernel_python)
    scratch = setting.scratch / f"{delay}ms"
    scratch.mkdir()
    return replace(setting, hosts=tuple(ends), scratch=scratch)


def main() -> int:
    options = parse(sys.argv[1:])
    # Ended by a signal, it still ends what it has started.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    options.cache.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        rig = stack.enter_context(open_rig(4, kind="namespace"))
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
        shared = Path(stack.enter_context(TemporaryDirectory(prefix="run-", dir=options.cache)))
        shared.chmod(0o755)  # other users read it, on the hosts
        hosts = tuple(Host(host, rig.ssh) for host in rig.hosts)
        python = kernel_python(options.cache.resolve(), hosts)
        for host in hosts:
            host.reset(python)
        setting = Setting(
            environ={**os.environ, **rig.environ},
            hosts=hosts,
            cache=options.cache.resolve(),
            scratch=scratch,
            shared=shared.resolve(),
            kernel_python=python,
        )
        delayed = {delay: away(setting, rig, delay, stack) for delay in DELAYS_MS}
        outcomes, late, machine = measure(options, setting, delayed)
    report = render(outcomes, late, machine)
    print(report)
    if options.write:
        page = HERE / "RESULTS.md"
        _, mark, notes = page.read_text().partition(NOTES) if page.exists() else ("", "", "")
        image = "![as ratios to a local kernel](results.svg)"
        page.write_text(f"# Results\n\n{image}\n\n{report}{mark}{notes}")
        (HERE / "results.svg").write_text(plot(outcomes))
        data = json.dumps(as_data(outcomes, late, machine), indent=2)
        (HERE / "results.json").write_text(data + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CommandFailed as error:  # without the environment of the kernels there is no table
        sys.exit(f"benchmarks: {error}")
