"""What is measured, and what came of it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


def p95(samples: Sequence[float]) -> float:
    """The sample that at most one in twenty exceeds."""
    ordered = sorted(samples)
    return ordered[-(-len(ordered) * 95 // 100) - 1]


@dataclass(frozen=True)
class Measure:
    """One line of the table: a statistic over the samples of one kind."""

    samples: str
    title: str
    statistic: Callable[[Sequence[float]], float] = statistics.median
    unit: str = "ms"
    difference: bool = False  # shown beside the ratio
    absolute: bool = False  # shown instead of the ratio

    @property
    def key(self) -> str:
        return f"{self.samples}_p95" if self.statistic is p95 else self.samples

    @property
    def more_is_better(self) -> bool:
        return self.unit == "MB/s"


MEASURES = (
    Measure("start", "start to kernel_info reply, host connected"),
    Measure("start", "the same, 95th percentile", p95),
    Measure("host_start", "first start on a new host"),
    Measure("first_start", "the same, from a process without connections"),
    Measure("result", "start to first execute result"),
    Measure("round_trip", "kernel_info round trip", difference=True),
    Measure("output", "output printed by the kernel", unit="MB/s"),
    Measure("shutdown", "graceful shutdown"),
    Measure("restart", "restart to kernel_info reply"),
    Measure("interrupt", "interrupt to idle"),
    Measure("death", "death of the kernel noticed"),
    Measure("burst", "30 starts at once (sshpyk on one host, the others on three)"),
    Measure("in_a_row", "30 starts one after the other"),
    Measure("memory_all", "memory per kernel, of eight idle ones: everything", unit="MB"),
    Measure("memory_pss", "of that, the kernel's own processes, proportional", unit="MB"),
    Measure("memory_private", "of that, private", unit="MB"),
    Measure(
        "lag_starts_p99",
        "delay of the application's event loop, 6 starts at once: p99",
        absolute=True,
    ),
    Measure("lag_starts_max", "the same, maximum", absolute=True),
    Measure(
        "lag_output_p99", "delay of the application's event loop, heavy output: p99", absolute=True
    ),
    Measure("lag_output_max", "the same, maximum", absolute=True),
    Measure("apart_starts_p99", "6 starts at once, hosts on another core: p99", absolute=True),
    Measure("apart_starts_max", "the same, maximum", absolute=True),
    Measure("apart_output_p99", "heavy output, hosts on another core: p99", absolute=True),
    Measure("apart_output_max", "the same, maximum", absolute=True),
    Measure("fairness", "round trip beside a printing kernel: added", absolute=True),
    Measure("printed", "what that kernel prints in the meantime", unit="MB/s"),
)


@dataclass(frozen=True)
class Facts:
    """What a host shows while one kernel runs on it."""

    connections: int  # over TCP, from outside
    listeners: tuple[str, ...]  # beyond loopback, other than sshd's


@dataclass
class Outcome:
    """All that one subject has shown. Times in ms, throughput in MB/s."""

    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    facts: Facts | None = None
    template: list[float] = field(default_factory=list)  # MB, proportional, of templates
    # Seconds that a kernel ran on after its shutdown was said to be done.
    outlived: list[float] = field(default_factory=list)

    def value(self, measure: Measure) -> float | None:
        samples = self.samples.get(measure.samples)
        return measure.statistic(samples) if samples else None

    def is_hopeless(self, kind: str) -> bool:
        """Failed twice and never succeeded: a third time would only cost its time limit."""
        return not self.samples.get(kind) and len(self.failures.get(kind, ())) >= 2


Outcomes = Mapping[str, Outcome]
