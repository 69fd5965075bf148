"""Small pictures for the page, as SVG text: lines, and a map of colours. No script, no font."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 720, 236
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 28, 30
LEGEND = 14
"""Height of its line, above what is drawn."""
COLOURS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#ca8a04", "#64748b")
ROW = 14
MOST_ROWS = 40


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    label: str,
    *,
    limits: tuple[float, float] | None = None,
) -> str:
    """One line a series of two points or more, without those that are not finite."""
    shown = {
        name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()
    }
    shown = {name: points for name, points in shown.items() if len(points) > 1}
    points = [point for line in shown.values() for point in line]
    if not points:
        return ""
    xs = [x for x, _ in points]
    x_range = _range(xs)
    low, high = limits or _range([y for _, y in points])
    y_ticks = _ticks(low, high)
    y_range = min(low, y_ticks[0]), max(high, y_ticks[-1])
    parts = [_frame(x_range, y_range, y_ticks, label)]
    room = min(130, (WIDTH - LEFT - RIGHT) // len(shown))
    for number, (name, line) in enumerate(shown.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{_x(x, x_range):.1f},{_y(y, y_range):.1f}" for x, y in line)
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{path}"/>'
        )
        place = LEFT + room * number
        parts.append(
            f'<rect x="{place}" y="{LEGEND - 5}" width="10" height="3" fill="{colour}"/>'
            f'<text x="{place + 15}" y="{LEGEND}">{escape(name[: (room - 15) // 7])}</text>'
        )
    return _svg(HEIGHT, label, "".join(parts))


def heat(columns: Sequence[tuple[int, Mapping[str, float]]], label: str) -> str:
    """Rows are tensors, columns steps; the colour is the power of ten."""
    every = list(dict.fromkeys(name for _, values in columns for name in values))
    names = every[:MOST_ROWS]
    powers = [
        math.log10(value)
        for _, values in columns
        for value in values.values()
        if 0 < value < math.inf
    ]
    if not names or not powers:
        return ""
    low, high = _range(powers)
    left, top = 230, 14
    height = top + ROW * len(names) + BOTTOM
    width = (WIDTH - left - RIGHT) / len(columns)
    parts = []
    for row, name in enumerate(names):
        y = top + ROW * row
        shown = name if len(name) < 36 else "…" + name[-34:]
        parts.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{escape(shown)}</text>')
        for column, (step, values) in enumerate(columns):
            if name not in values:
                continue
            colour, words = _heat_colour(values[name], low, high)
            parts.append(
                f'<rect x="{left + column * width:.2f}" y="{y}" width="{width + 0.3:.2f}" '
                f'height="{ROW - 1}" fill="{colour}"><title>{escape(name)}, step {step}: '
                f"{words}</title></rect>"
            )
    foot = height - 10
    more = f"and {len(every) - MOST_ROWS} more tensors" if len(every) > MOST_ROWS else ""
    parts.append(
        f'<text x="{left - 8}" y="{foot}" text-anchor="end">{more}</text>'
        f'<text x="{left}" y="{foot}">step {columns[0][0]}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{foot}" text-anchor="end">step {columns[-1][0]}</text>'
        f'<text x="{(left + WIDTH) / 2:.0f}" y="{foot}" text-anchor="middle">'
        f"dark {10**low:.0e} … light {10**high:.0e}; red: zero or not finite</text>"
    )
    return _svg(height, label, "".join(parts))


def _heat_colour(value: float, low: float, high: float) -> tuple[str, str]:
    if not 0 < value < math.inf:
        return "#dc2626", f"{value:g}"
    share = (math.log10(value) - low) / (high - low)
    return f"hsl({250 - 190 * share:.0f} 65% {22 + 55 * share:.0f}%)", f"{value:.3g}"


def _svg(height: int, label: str, inside: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
        f"{inside}</svg>"
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low < 1e-12:
        margin = abs(high) * 0.1 or 1.0
        return low - margin, high + margin
    return low, high


def _x(value: float, limits: tuple[float, float]) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - limits[0]) / (limits[1] - limits[0])


def _y(value: float, limits: tuple[float, float]) -> float:
    share = (value - limits[0]) / (limits[1] - limits[0])
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _frame(
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    y_ticks: Sequence[float],
    label: str,
) -> str:
    parts = []
    for value in y_ticks:
        y = _y(value, y_range)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>'
        )
    last = WIDTH - RIGHT - 60  # what is right of it would lie under the label
    for value in _ticks(*x_range):
        x = _x(value, x_range)
        if x_range[0] <= value <= x_range[1] and x < last:
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - 12}" text-anchor="middle">{value:g}</text>'
            )
    end = f"{x_range[1]:g} {label}" if x_range[1] > 99 else f"{x_range[1]:.3g} {label}"
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 12}" text-anchor="end">{end}</text>')
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers, from the last one up to `low` to the first one from `high` on."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    apart = next(power * step for step in (1, 2, 5, 10) if power * step >= rough * 0.999)
    first, last = math.floor(low / apart + 1e-9), math.ceil(high / apart - 1e-9)
    return [round(number * apart, 12) for number in range(first, last + 1)]
