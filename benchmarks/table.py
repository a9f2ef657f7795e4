"""The table, the goals, and the same as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import median

from .hosts import OUTLIVED_LIMIT
from .measures import MEASURES, Measure, Outcome, Outcomes, p95
from .peer_gateway_provisioners import NAME as GATEWAY
from .subjects import LOCAL, OURS

#: Outcomes by how far the host is away: milliseconds, there and back.
Late = Mapping[int, Outcomes]

CELL_WIDTH, LINE_WIDTH = 48, 240


@dataclass(frozen=True)
class Goal:
    """A promise about ``ours`` and whether this run keeps it; None where it was not measured."""

    text: str
    met: bool | None
    found: str = ""

    @property
    def verdict(self) -> str:
        if self.met is None:
            return "not measured"
        return f"{'met' if self.met else 'NOT met'} ({self.found})"


def ratio(measure: Measure, outcome: Outcome, base: Outcome) -> float | None:
    value, base_value = outcome.value(measure), base.value(measure)
    return None if value is None or not base_value else value / base_value


def goals(outcomes: Outcomes, late: Late) -> Iterator[Goal]:
    ours, base = outcomes.get(OURS, Outcome()), outcomes.get(LOCAL, Outcome())
    measures = {measure.key: measure for measure in MEASURES}

    def limit(key: str, text: str, bound: float, other: Outcome = base) -> Goal:
        measure = measures[key]
        found = ratio(measure, ours, other)
        if found is None:
            return Goal(text, False if ours.failures.get(measure.samples) else None, "it failed")
        met = found >= bound if measure.more_is_better else found <= bound
        return Goal(text, met, f"{found:.3g}")

    def added(key: str, text: str, bound: float) -> Goal:
        value, base_value = ours.value(measures[key]), base.value(measures[key])
        if value is None or base_value is None:
            return Goal(text, None)
        more = value - base_value
        return Goal(text, more <= bound, f"{more:+.2f} ms")

    def at_most(key: str, text: str, bound: float) -> Goal:
        value = ours.value(measures[key])
        return Goal(text, None if value is None else value <= bound, f"{value or 0:.1f} ms")

    peer = outcomes.get(GATEWAY, Outcome())
    yield limit("start", "start <= 0.25 x local", 0.25)
    yield limit("start", f"start <= 0.1 x {GATEWAY}", 0.1, peer)
    yield limit("host_start", "first start on a new host <= 1.5 x local", 1.5)
    delay = max(late, default=0)
    trips = round_trips(measures["start"], ours, late.get(delay, {}).get(OURS), delay)
    text = f"start {delay} ms away: at most 3 more round trips"
    yield Goal(text, None if trips is None else trips <= 3, f"{trips or 0:.1f}")
    yield limit("memory_pss", "proportional memory of an idle kernel, of eight <= 0.5 x local", 0.5)
    yield limit("shutdown", "graceful shutdown <= 1 x local", 1)
    yield limit("restart", "restart <= 1 x local", 1)
    yield limit("death", "death noticed <= 1 x local", 1)
    yield limit("burst", "30 starts at once <= 0.35 x local", 0.35)
    yield added("round_trip", "round trip <= local + 1 ms", 1)
    yield limit("output", "output >= 0.5 x local", 0.5)
    yield added("fairness", "round trip beside a printing kernel <= local's + 5 ms", 5)
    text = "hosts on another core, delay of the application's event loop, p99 <= 5 ms:"
    yield at_most("apart_starts_p99", f"{text} 6 starts at once", 5)
    yield at_most("apart_output_p99", f"{text} heavy output", 5)
    one, quiet = "one TCP connection per host", "nothing but sshd listens beyond loopback"
    if ours.facts is None:
        yield from (Goal(one, None), Goal(quiet, None))
    else:
        count, listeners = ours.facts.connections, ours.facts.listeners
        yield Goal(one, count == 1, str(count))
        yield Goal(quiet, not listeners, _ports(listeners) or "nothing else listens")


def round_trips(measure: Measure, near: Outcome, far: Outcome | None, delay: int) -> float | None:
    """How many times the delay, in ms there and back, is in what is measured."""
    value, far_value = near.value(measure), far.value(measure) if far else None
    return None if value is None or far_value is None else (far_value - value) / delay


def render(outcomes: Outcomes, late: Late, machine: Mapping[str, str]) -> str:
    """The whole report in Markdown."""
    lines = [_row(["", *outcomes])]
    lines.append(_row(["---"] + ["---:"] * len(outcomes)))
    base = outcomes.get(LOCAL, Outcome())
    for measure in MEASURES:
        if _was_tried(measure, outcomes.values()):
            cells = [_cell(measure, outcome, base) for outcome in outcomes.values()]
            lines.append(_row([measure.title, *cells]))
    lines += [
        "",
        "Medians unless noted. `local` is in absolute figures, the others are ratios to it.",
    ]
    lines += ["More than 1 is slower; for MB/s it is faster. Rows in which every figure has a"]
    lines += ["unit are absolute. `forked`, `spawned` and `warm` are this package."]
    lines += _late_table(outcomes, late)
    lines += ["", "On the host, with one kernel and after it ended:", ""]
    for name, outcome in outcomes.items():
        if outcome.facts is not None:
            count, listeners = outcome.facts.connections, outcome.facts.listeners
            beyond = _ports(listeners) or "nothing"
            lines.append(
                f"- `{name}`: {count} TCP connection{'s' * (count != 1)} to the host; "
                f"listening beyond loopback except sshd: {beyond}{_outlived(outcome)}"
                f"{_template(outcome)}"
            )
    lines += ["", f"Goals of `{OURS}`:", ""]
    lines += [f"- {goal.text}: {goal.verdict}" for goal in goals(outcomes, late)]
    failures = list(_failures(outcomes))
    for delay, there in late.items():
        failures += [f"{line} ({delay} ms away)" for line in _failures(there)]
    if failures:
        lines += ["", "Failures:", "", *failures]
    lines += ["", "Measured with:", "", *(f"- {what}: {is_}" for what, is_ in machine.items())]
    return "\n".join(lines) + "\n"


def _late_table(outcomes: Outcomes, late: Late) -> Iterator[str]:
    """What the network's delay does, and how many times it is in what is measured."""
    names = list(next(iter(late.values()), {}))
    if not names:
        return
    delays = [0, *late]
    yield from ("", f"With the host {', '.join(map(str, delays))} ms away, there and back:", "")
    yield from (_row(["", *names]), _row(["---"] + ["---:"] * len(names)))
    for measure in MEASURES:
        tried = (outcome for there in late.values() for outcome in there.values())
        if measure.statistic is p95 or not _was_tried(measure, tried):
            continue
        cells = []
        for name in names:
            each = [outcomes[name], *(there[name] for there in late.values())]
            values = [outcome.value(measure) for outcome in each]
            text = " / ".join("**fails**" if v is None else f"{v:.0f}" for v in values) + " ms"
            trips = round_trips(measure, each[0], each[-1], delays[-1])
            cells.append(text + (f" ({trips:.1f})" if trips is not None else ""))
        yield _row([measure.title, *cells])
    yield from (
        "",
        f"In brackets: the number of round trips, calculated from what {delays[-1]} ms add.",
    )
    yield f"`{GATEWAY}` is not measured here: its channels do not use its SSH connections."


def _was_tried(measure: Measure, outcomes: Iterable[Outcome]) -> bool:
    kind = measure.samples
    return any(outcome.samples.get(kind) or outcome.failures.get(kind) for outcome in outcomes)


def as_data(outcomes: Outcomes, late: Late, machine: Mapping[str, str]) -> dict[str, object]:
    base = outcomes.get(LOCAL, Outcome())
    return {
        "machine": dict(machine),
        "subjects": {
            name: {
                "measures": {
                    m.key: {
                        "unit": m.unit,
                        "value": outcome.value(m),
                        "ratio": ratio(m, outcome, base),
                    }
                    for m in MEASURES
                },
                "samples": dict(outcome.samples),
                "failures": dict(outcome.failures),
                "outlived": outcome.outlived,
                "template": outcome.template,
                "facts": asdict(outcome.facts) if outcome.facts else None,
            }
            for name, outcome in outcomes.items()
        },
        "goals": [asdict(goal) for goal in goals(outcomes, late)],
        "away": {
            str(delay): {name: dict(outcome.samples) for name, outcome in there.items()}
            for delay, there in late.items()
        },
    }


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(measure: Measure, outcome: Outcome, base: Outcome) -> str:
    value = outcome.value(measure)
    failed = len(outcome.failures.get(measure.samples, ()))
    if value is None:
        errors = outcome.failures.get(measure.samples)
        if not outcome.samples:  # not even a first kernel, or it could not be installed
            errors = outcome.failures.get("first_start")
        return f"**fails**: {_shorten(errors[-1], CELL_WIDTH)}" if errors else "-"
    text = f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {measure.unit}"
    base_value = base.value(measure)
    if outcome is not base and base_value and not measure.absolute:
        text = f"{value / base_value:.2f}"
        if measure.difference:
            text += f" ({value - base_value:+.2f} {measure.unit})"
    if failed:
        text += f" ({failed} of {failed + len(outcome.samples[measure.samples])} failed)"
    return text


def _outlived(outcome: Outcome) -> str:
    if not outcome.outlived:
        return ""
    seconds = median(outcome.outlived)
    text = f"more than {seconds:g}" if seconds >= OUTLIVED_LIMIT else f"{seconds:.2f}"
    return f"; the kernel kept running for {text} s after shutdown_kernel() returned"


def _template(outcome: Outcome) -> str:
    megabytes = median(outcome.template) if outcome.template else 0
    return f"; the template holds {megabytes:.0f} MB beside eight kernels" if megabytes else ""


def _ports(listeners: tuple[str, ...]) -> str:
    """``5 ports of 0.0.0.0``: the numbers are others each time."""
    counts = Counter(at.rpartition(":")[0] for at in listeners)
    return ", ".join(f"{n} port{'s' * (n != 1)} of {address}" for address, n in counts.items())


def _failures(outcomes: Outcomes) -> Iterator[str]:
    """Each distinct error of a subject once, with what it prevented."""
    for name, outcome in outcomes.items():
        prevented: dict[str, list[str]] = {}
        for kind, errors in outcome.failures.items():
            for error in dict.fromkeys(errors):
                prevented.setdefault(_shorten(error, LINE_WIDTH), []).append(kind)
        for error, kinds in prevented.items():
            yield f"- `{name}`, {', '.join(kinds)}: {error}"


def _shorten(error: str, width: int) -> str:
    plain = " ".join(error.split()).replace("|", "/")
    return plain if len(plain) <= width else plain[: width - 1] + "…"
