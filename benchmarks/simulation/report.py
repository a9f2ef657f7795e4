"""The tables, and the goals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .client_sockets import Cost
from .scale import Found

Placements = Mapping[str, Mapping[str, float]]

PLACEMENT_GOAL_MS = 1.0
IDLE_GOAL, IDLE_GOAL_KERNELS = 0.01, 1000


@dataclass(frozen=True)
class Results:
    """Of a whole run. `forwards`: by where the sockets are."""

    placements: Placements
    scales: Sequence[Found]
    forwards: Mapping[str, Mapping[str, Cost]]
    machine: Mapping[str, str]


def render(results: Results) -> str:
    """All of it in Markdown."""
    sections = [
        _scales(results.scales),
        _placements(results.placements),
        _forwards(results.forwards),
        ["Goals:", "", *_goals(results)],
        ["How resources grow:", "", *_growth(results)],
        ["Measured with:", "", *(f"- {what}: {is_}" for what, is_ in results.machine.items())],
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _scales(scales: Sequence[Found]) -> list[str]:
    columns = [f"{s.hosts:,} / {s.kernels:,}{'' if s.sockets else ' ²'}" for s in scales]
    lines: list[tuple[str, list[str]]] = [
        ("starts per second, round-robin", [f"{s.starts_a_second:,.0f}" for s in scales]),
        ("CPU per start, ms", [_ms(s.start_cpu_seconds) for s in scales]),
        (
            "starts per second, least-load, one at a time",
            [f"{s.least_load_starts_a_second:,.0f}" for s in scales],
        ),
        ("CPU per start, least-load, ms", [_ms(s.least_load_cpu_seconds) for s in scales]),
        (
            "hosts connected per second, without SSH",
            [f"{s.connects_a_second:,.0f}" for s in scales],
        ),
        ("memory of the process, MB", [f"{s.total_bytes / 1e6:.0f}" for s in scales]),
        ("- of this, before the first host, MB", [f"{s.base_bytes / 1e6:.0f}" for s in scales]),
        ("- per host, KB ¹", [_kb(s.host_bytes) if s.hosts > 1 else "-" for s in scales]),
        ("- per kernel, KB ¹", [_kb(s.kernel_bytes) for s in scales]),
        ("descriptors", [f"{s.descriptors:,}" for s in scales]),
        ("CPU at idle, % of a core", [f"{s.idle_cpu:.2%}" for s in scales]),
        ("CPU while all agents report, % of a core", [f"{s.report_cpu:.2%}" for s in scales]),
        ("- reports per second", [f"{s.reports_a_second:.0f}" for s in scales]),
        ("time to close, s", [f"{s.close_seconds:.2f}" for s in scales]),
    ]
    return [
        _row(["hosts / kernels", *columns]),
        _row(["---"] + ["---:"] * len(columns)),
        *(_row([title, *cells]) for title, cells in lines),
        "",
        "¹ includes what the simulated agents keep, under 3 KB per host and 0.5 KB per kernel, and",
        "excludes what SSH keeps. CPU is the server's, without SSH's keepalives.",
        *_footnotes(scales),
    ]


def _footnotes(scales: Sequence[Found]) -> Iterator[str]:
    if not all(s.sockets for s in scales):
        yield "² without the kernels' sockets: this machine does not allow so many descriptors."
    for found in scales:
        if found.kernels < found.wanted:
            yield (
                f"{found.kernels:,} kernels instead of {found.wanted:,}: the limit of descriptors "
                f"allows no more here."
            )


def _placements(placements: Placements) -> list[str]:
    columns = list(next(iter(placements.values())))
    most = columns[-2]
    titles = [f"{name} host{'s' * (name != '1')}" for name in columns[:-1]]
    return [
        _row(["one placement, ms", *titles, f"{most}, mixed"]),
        _row(["---"] + ["---:"] * len(columns)),
        *(
            _row([policy, *(f"{times[column]:.3f}" for column in columns)])
            for policy, times in placements.items()
        ),
        "",
        "Medians of table, candidates and policy, without asking hosts for their load.",
        "Mixed: four weights, a required label, and a tenth of the hosts unusable.",
    ]


def _forwards(forwards: Mapping[str, Mapping[str, Cost]]) -> list[str]:
    lines = [
        _row(["", "descriptors", "KB", "KB of the system ¹", "to open, ms", "to close, ms"]),
        _row(["---"] + ["---:"] * 5),
    ]
    for where, costs in forwards.items():
        for what, cost in costs.items():
            lines.append(
                _row(
                    [
                        f"{what}, sockets in {where}",
                        f"{cost.descriptors:.0f}",
                        _kb(cost.bytes),
                        _kb(cost.kernel_bytes),
                        _ms(cost.open_seconds),
                        _ms(cost.close_seconds),
                    ]
                )
            )
    lines += [
        "",
        "A forward is what a kernel's five sockets cost without a client. A client is connected to",
        "all five; its own end and SSH's channels are not counted.",
        "¹ measured as the growth of Slab in /proc/meminfo: sockets, inodes, directory entries.",
    ]
    return lines


def _goals(results: Results) -> Iterator[str]:
    plain = {policy: list(times.values())[-2] for policy, times in results.placements.items()}
    worst = max(plain, key=lambda policy: plain[policy])
    yield _goal(
        f"one placement on 1,000 hosts < {PLACEMENT_GOAL_MS:g} ms",
        plain[worst] < PLACEMENT_GOAL_MS,
        f"{worst}: {plain[worst]:.2f} ms",
    )
    for found in results.scales:
        if found.kernels == IDLE_GOAL_KERNELS and found.sockets:
            yield _goal(
                f"{found.kernels:,} kernels on {found.hosts:,} hosts at idle < {IDLE_GOAL:.0%} of "
                "a core, without SSH's keepalives",
                found.idle_cpu < IDLE_GOAL,
                f"{found.idle_cpu:.2%}",
            )


def _growth(results: Results) -> Iterator[str]:
    """Facts, from the largest measurement with sockets and the first place for them."""
    largest = max((s for s in results.scales if s.sockets), key=lambda s: (s.hosts, s.kernels))
    costs = next(iter(results.forwards.values()))
    forward, client = costs["forward"], costs["client"]
    yield _row(["", "a host", "a kernel", "a client of a kernel", "a start"])
    yield _row(["---"] * 5)
    yield _row(
        [
            "memory",
            f"{_kb(largest.host_bytes)} KB, plus SSH's",
            f"{_kb(largest.kernel_bytes)} KB, {_kb(forward.bytes)} of this its sockets'",
            f"{_kb(client.bytes)} KB, plus SSH's",
            "none permanently",
        ]
    )
    yield _row(
        [
            "memory of the system",
            "SSH's connection",
            f"{_kb(forward.kernel_bytes)} KB",
            f"{_kb(client.kernel_bytes)} KB, both ends",
            "none permanently",
        ]
    )
    yield _row(
        [
            "descriptors",
            "1 (SSH)",
            f"{forward.descriptors:.0f}",
            f"{client.descriptors:.0f}, plus as many for its own ends",
            "none",
        ]
    )
    yield _row(["files", "none", "10: sockets and links to them", "none", "none"])
    report = max(results.scales, key=lambda s: s.reports_a_second)
    each = (report.report_cpu - report.idle_cpu) / report.reports_a_second
    yield _row(
        [
            "CPU",
            f"{_ms(each)} ms per report, at most one every 20 s besides starts; SSH's keepalives",
            "none at idle",
            "what it transfers",
            f"{_ms(largest.start_cpu_seconds)} ms; by least-load "
            f"{_ms(largest.least_load_cpu_seconds)} ms on {largest.hosts:,} hosts",
        ]
    )


def _goal(text: str, met: bool, found: str) -> str:
    return f"- {text}: {'met' if met else 'NOT met'} ({found})"


def _kb(count: float) -> str:
    return f"{count / 1000:.1f}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
