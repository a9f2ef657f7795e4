"""The doctor's findings, as text and JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_WIDTH = 12
_INDENT = " " * (2 + 6 + _WIDTH)


@dataclass(frozen=True)
class Finding:
    """One check. `advice` says what to do about a failure if `seen` does not."""

    check: str
    ok: bool
    seen: str
    advice: str = ""

    def lines(self) -> list[str]:
        """The finding as one or more lines of text."""
        first, *more = self.seen.splitlines() or [""]
        lines = [f"  {'ok' if self.ok else 'FAIL':<6}{self.check:<{_WIDTH}}{first}".rstrip()]
        lines += [_INDENT + line for line in more]
        if self.advice:
            lines += textwrap.wrap(
                f"-> {self.advice}",
                100,
                initial_indent=_INDENT,
                subsequent_indent=_INDENT + "   ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        return lines


@dataclass
class HostFindings:
    """The checks of one host, in order. `kernelspecs` are the kernelspecs that name it."""

    host: str
    kernelspecs: Sequence[str] = ()
    checks: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.checks)

    def text(self) -> str:
        specs = f" (kernelspec {', '.join(self.kernelspecs)})" if self.kernelspecs else ""
        return "\n".join([self.host + specs, *(line for f in self.checks for line in f.lines())])

    def as_json(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "kernelspecs": list(self.kernelspecs),
            "ok": self.ok,
            "checks": [
                {"check": f.check, "ok": f.ok, "seen": f.seen, "advice": f.advice}
                for f in self.checks
            ],
        }
