"""Measure the subjects and print the table: ``python -m benchmarks`` from the root."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.rig import open_rig

from .command import CommandFailed
from .hosts import Host
from .machine import describe
from .measures import Outcome
from .rounds import Plan, run_round
from .setting import Setting, Subject, kernel_python
from .subjects import MAKERS, make_subject
from .table import as_data, render

HERE = Path(__file__).parent
BURST_ROUNDS = 3


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--subjects",
        type=lambda text: text.split(","),
        default=list(MAKERS),
        help=f"comma-separated, of {', '.join(MAKERS)}; all by default",
    )
    parser.add_argument("--rounds", type=int, help="7 by default")
    parser.add_argument("--small", action="store_true", help="20 MB of output instead of 200")
    parser.add_argument("--quick", action="store_true", help="small, and two rounds unless told")
    parser.add_argument("--burst", type=int, default=0, help="start that many kernels at once")
    parser.add_argument(
        "--write", action="store_true", help="write RESULTS.md and results.json as well"
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
    options.rounds = options.rounds or (2 if options.quick else 7)
    options.small = options.small or options.quick
    return options


def make_subjects(
    names: list[str], setting: Setting, outcomes: dict[str, Outcome]
) -> list[Subject]:
    """The subjects that could be made; for the others, the outcome says why not."""
    subjects = []
    for name in names:
        outcomes[name] = Outcome()
        try:
            subjects.append(make_subject(name, setting))
        except CommandFailed as error:
            outcomes[name].failures["first_start"].append(str(error))
    return subjects


def measure(
    options: argparse.Namespace, setting: Setting
) -> tuple[dict[str, Outcome], dict[str, str]]:
    """Every subject once in each round, in an order that changes from round to round."""
    outcomes: dict[str, Outcome] = {}
    subjects = make_subjects(options.subjects, setting, outcomes)
    plan = Plan(megabytes=20 if options.small else 200, burst=options.burst)
    machine = describe(setting, subjects, options.rounds)
    for number in range(options.rounds):
        turn = number % len(subjects) if subjects else 0
        for subject in subjects[turn:] + subjects[:turn]:
            outcome = outcomes[subject.name]
            if outcome.is_hopeless("first_start"):
                continue
            now = time.strftime("%H:%M:%S")
            print(f"{now} round {number + 1} of {options.rounds}: {subject.name}", file=sys.stderr)
            log = setting.scratch / f"{subject.name}.log"
            run_round(subject, plan, number < BURST_ROUNDS, outcome, setting.kernel_python, log)
    return outcomes, machine


def main() -> int:
    options = parse(sys.argv[1:])
    # Ended by a signal, it still ends what it has started.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))
    options.cache.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        rig = stack.enter_context(open_rig(3, kind="namespace"))
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
        outcomes, machine = measure(options, setting)
    report = render(outcomes, machine)
    print(report)
    if options.write:
        (HERE / "RESULTS.md").write_text(f"# Results\n\n{report}")
        data = json.dumps(as_data(outcomes, machine), indent=2)
        (HERE / "results.json").write_text(data + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CommandFailed as error:  # without the environment of the kernels there is no table
        sys.exit(f"benchmarks: {error}")
