"""The table as a picture: a bar for each subject and measure, as ratios, in plain SVG."""

from __future__ import annotations

import math
from html import escape

from .measures import MEASURES, Outcome, Outcomes
from .subjects import LOCAL
from .table import ratio

COLORS = ("#0b6e4f", "#6bbf59", "#f4a259", "#8d99ae", "#5b5f97", "#b23a48")
LEFT, WIDTH, BAR, GAP, TOP = 400, 560, 9, 10, 40
TICKS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 10, 20)


def plot(outcomes: Outcomes) -> str:
    """SVG; the axis is logarithmic and clipped at its ends. 1 is the local kernel."""
    base = outcomes.get(LOCAL, Outcome())
    names = [name for name in outcomes if name != LOCAL]
    shapes: list[str] = []
    y = TOP
    for measure in MEASURES:
        ratios = {name: ratio(measure, outcomes[name], base) for name in names}
        if measure.absolute or all(value is None for value in ratios.values()):
            continue
        middle = y + BAR * len(names) / 2 + 4
        title = measure.title + (" (more is better)" if measure.more_is_better else "")
        shapes.append(_text(LEFT - 8, middle, title, "end"))
        for name, color in zip(names, COLORS, strict=False):
            value = ratios[name]
            if value is not None:
                left, right = sorted((_x(1), _x(value)))
                shapes.append(
                    f'<rect x="{left:.1f}" y="{y}" width="{max(1, right - left):.1f}" '
                    f'height="{BAR - 1}" fill="{color}"><title>{escape(name)}: {value:.2f}'
                    "</title></rect>"
                )
            else:
                shapes.append(_text(_x(1) + 3, y + BAR - 1, "fails", size=8))
            y += BAR
        y += GAP
    axis = [
        f'<line x1="{_x(tick):.1f}" y1="{TOP - 6}" x2="{_x(tick):.1f}" y2="{y}" '
        f'stroke="{"#000" if tick == 1 else "#ddd"}"/>'
        + _text(_x(tick), y + 14, f"{tick:g}", "middle")
        for tick in TICKS
    ]
    legend = []
    for number, (name, color) in enumerate(zip(names, COLORS, strict=False)):
        x = LEFT + number * 115
        legend.append(f'<rect x="{x}" y="12" width="10" height="10" fill="{color}"/>')
        legend.append(_text(x + 14, 21, name))
    size = f'width="{LEFT + WIDTH + 40}" height="{y + 24}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">'
    background = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, background, *axis, *shapes, *legend, "</svg>"]) + "\n"


def _x(value: float) -> float:
    low, high = math.log(TICKS[0]), math.log(TICKS[-1])
    return LEFT + WIDTH * (min(max(math.log(max(value, 1e-9)), low), high) - low) / (high - low)


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 11) -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text {where}>{escape(text)}</text>"
