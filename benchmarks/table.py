"""The table, the goals, and the same as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import median

from .hosts import OUTLIVED_LIMIT
from .measures import MEASURES, Measure, Outcome, Outcomes
from .subjects import LOCAL, OURS

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


def goals(outcomes: Outcomes) -> Iterator[Goal]:
    ours, base = outcomes.get(OURS, Outcome()), outcomes.get(LOCAL, Outcome())
    measures = {measure.key: measure for measure in MEASURES}

    def limit(key: str, text: str, bound: float) -> Goal:
        measure = measures[key]
        found = ratio(measure, ours, base)
        if found is None:
            return Goal(text, False if ours.failures.get(measure.samples) else None, "it failed")
        met = found >= bound if measure.more_is_better else found <= bound
        return Goal(text, met, f"{found:.2f}")

    yield limit("start", "start <= 1.3 x local", 1.3)
    trip, base_trip = ours.value(measures["round_trip"]), base.value(measures["round_trip"])
    text = "round trip <= local + 1 ms"
    if trip is None or base_trip is None:
        yield Goal(text, None)
    else:
        yield Goal(text, trip - base_trip <= 1.0, f"{trip - base_trip:+.2f} ms")
    yield limit("output", "output >= 0.5 x local", 0.5)
    yield limit("shutdown", "graceful shutdown <= 1.5 x local", 1.5)
    one, quiet = "one TCP connection a host", "nothing but sshd listens beyond loopback"
    if ours.facts is None:
        yield from (Goal(one, None), Goal(quiet, None))
    else:
        count, listeners = ours.facts.connections, ours.facts.listeners
        yield Goal(one, count == 1, str(count))
        yield Goal(quiet, not listeners, _ports(listeners) or "nothing does")


def render(outcomes: Outcomes, machine: Mapping[str, str]) -> str:
    """The whole report in Markdown."""
    lines = [_row(["", *outcomes])]
    lines.append(_row(["---"] + ["---:"] * len(outcomes)))
    base = outcomes.get(LOCAL, Outcome())
    for measure in MEASURES:
        if any(
            o.samples.get(measure.samples) or o.failures.get(measure.samples)
            for o in outcomes.values()
        ):
            cells = [_cell(measure, outcome, base) for outcome in outcomes.values()]
            lines.append(_row([measure.title, *cells]))
    lines += ["", "`local` in absolute figures, medians unless said; the others as ratios to it."]
    lines += ["More than 1 is slower, except in the line of MB/s, where it is faster."]
    lines += ["", "Seen on the host, with one kernel and after its end:", ""]
    for name, outcome in outcomes.items():
        if outcome.facts is not None:
            count, listeners = outcome.facts.connections, outcome.facts.listeners
            beyond = _ports(listeners) or "nothing"
            lines.append(
                f"- `{name}`: {count} TCP connection{'s' * (count != 1)} to the host; "
                f"listening beyond loopback, sshd apart: {beyond}{_outlived(outcome)}"
            )
    lines += ["", "Goals of `ours`:", ""]
    lines += [f"- {goal.text}: {goal.verdict}" for goal in goals(outcomes)]
    failures = list(_failures(outcomes))
    if failures:
        lines += ["", "Failures:", "", *failures]
    lines += ["", "Measured with:", "", *(f"- {what}: {is_}" for what, is_ in machine.items())]
    return "\n".join(lines) + "\n"


def as_data(outcomes: Outcomes, machine: Mapping[str, str]) -> dict[str, object]:
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
                "facts": asdict(outcome.facts) if outcome.facts else None,
            }
            for name, outcome in outcomes.items()
        },
        "goals": [asdict(goal) for goal in goals(outcomes)],
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
    if outcome is not base and base_value:
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
    return f"; the kernel ran on for {text} s after shutdown_kernel() had returned"


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
