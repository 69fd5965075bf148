"""Charts as SVG: lines, a color map, two distributions, pairs of bars.

This module computes where things are, and `charts.svg.j2` writes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from sagemaker_byoc.pages.templates import macro

if TYPE_CHECKING:
    from markupsafe import Markup

WIDTH, HEIGHT = 720, 236
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 28, 30
_LEGEND = 14
"""The baseline of the legend, above the plot."""
_COLORS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#ca8a04", "#64748b")
_NO_NUMBER = "#dc2626"
_ROW = 14
MOST_ROWS = 40

_CARD_WIDTH, _CARD_HEIGHT = 360, 150
_CARD_SIDE, _CARD_TOP, _CARD_BOTTOM = 8, 10, 22
_BAR_ROW = 18
_BAR_LEFT = 110
_MOST_BARS = 12

Ticks = list[tuple[float, str]]
"""A place in the picture and its text."""


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    label: str,
    *,
    limits: tuple[float, float] | None = None,
) -> Markup | str:
    """Draw one line per series of two points or more, without points that are not finite."""
    shown = {
        name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()
    }
    shown = {name: points for name, points in shown.items() if len(points) > 1}
    points = [point for line in shown.values() for point in line]
    if not points:
        return ""
    x_range = _range([x for x, _ in points])
    low, high = limits or _range([y for _, y in points])
    y_ticks = _ticks(low, high)
    y_range = min(low, y_ticks[0]), max(high, y_ticks[-1])
    room = min(130, (WIDTH - LEFT - RIGHT) // len(shown))
    return _draw(
        "lines",
        label=label,
        box=_box(LEFT, HEIGHT),
        rows=[(_y(value, y_range), f"{value:.4g}") for value in y_ticks],
        columns=_column_ticks(x_range),
        end=f"{x_range[1]:.0f} {label}" if x_range[1] > 99 else f"{x_range[1]:.3g} {label}",
        series=[
            {
                "name": name[: (room - 15) // 7],
                "color": _COLORS[number % len(_COLORS)],
                "place": LEFT + room * number,
                "points": " ".join(f"{_x(x, x_range):.1f},{_y(y, y_range):.1f}" for x, y in line),
            }
            for number, (name, line) in enumerate(shown.items())
        ],
        legend=_LEGEND,
    )


def heat(columns: Sequence[tuple[int, Mapping[str, float]]], label: str) -> Markup | str:
    """Draw a row per name and a column per step; the color is the power of ten."""
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
    width = (WIDTH - left - RIGHT) / len(columns)
    rows = []
    for row, name in enumerate(names):
        y = top + _ROW * row
        # Tens of thousands of cells: through the template they took 2.7 s, as strings 0.2 s.
        head = f'y="{y}" width="{width + 0.3:.2f}" height="{_ROW - 1}" fill='
        title = f"<title>{escape(name)}, step "
        cells = []
        for column, (step, values) in enumerate(columns):
            if name in values:
                color, words = _heat_color(values[name], low, high)
                x = f"{left + column * width:.2f}"
                cells.append(f'<rect x="{x}" {head}"{color}">{title}{step}: {words}</title></rect>')
        shown = name if len(name) < 36 else "…" + name[-34:]
        rows.append({"y": y, "shown": shown, "cells": "".join(cells)})
    return _draw(
        "heat",
        label=label,
        box=_box(left, top + _ROW * len(names) + BOTTOM),
        rows=rows,
        more=len(every) - len(names),
        steps=(columns[0][0], columns[-1][0]),
        ends=(f"{10**low:.0e}", f"{10**high:.0e}"),
    )


def distributions(
    before: Sequence[float] | None,
    now: Sequence[float] | None,
    label: str,
    ends: tuple[str, str],
) -> Markup | str:
    """Draw the shares in the bins of one axis: before as bars, now as a line.

    `ends` are the texts at both ends of the axis.
    """
    bins = max(len(before or ()), len(now or ()))
    if not bins:
        return ""
    highest = max((*(before or ()), *(now or ()))) or 1.0
    width = (_CARD_WIDTH - 2 * _CARD_SIDE) / bins
    tall = _CARD_HEIGHT - _CARD_TOP - _CARD_BOTTOM
    foot = _CARD_TOP + tall
    bars = [
        (round(_CARD_SIDE + place * width, 1), round(foot - high, 1), round(high, 1))
        for place, high in enumerate(tall * share / highest for share in before or ())
    ]
    steps = [
        f"{_CARD_SIDE + (place + side) * width:.1f},{foot - tall * share / highest:.1f}"
        for place, share in enumerate(now or ())
        for side in (0, 1)
    ]
    return _draw(
        "distributions",
        label=label,
        width=_CARD_WIDTH,
        height=_CARD_HEIGHT,
        side=_CARD_SIDE,
        bars=bars,
        bar_width=round(width + 0.2, 1),
        points=" ".join(steps),
        ends=ends,
    )


def pairs(
    shares: Mapping[str, tuple[float, float]], label: str, text_of: Callable[[float], str]
) -> Markup | str:
    """Draw two bars per name, before and now, for the names with the largest shares.

    `text_of` returns the text of a share.
    """
    if not shares:
        return ""
    names = sorted(shares, key=lambda name: max(shares[name]), reverse=True)[:_MOST_BARS]
    widest = max(max(shares[name]) for name in names) or 1.0
    room = _CARD_WIDTH - _BAR_LEFT - 50
    return _draw(
        "pairs",
        label=label,
        width=_CARD_WIDTH,
        height=_CARD_TOP * 2 + _BAR_ROW * len(names),
        left=_BAR_LEFT,
        rows=[
            {
                "y": _CARD_TOP + row * _BAR_ROW,
                "name": name,
                "shown": name if len(name) <= 16 else name[:15] + "…",
                "bars": [
                    (round(room * share / widest, 1), text_of(share)) for share in shares[name]
                ],
            }
            for row, name in enumerate(names)
        ],
    )


def _draw(name: str, **values: Any) -> Markup:
    return macro("pages/charts.svg.j2", name, **values)


def _box(left: int, height: int) -> dict[str, int]:
    return {"width": WIDTH, "height": height, "left": left, "right": WIDTH - RIGHT}


def _heat_color(value: float, low: float, high: float) -> tuple[str, str]:
    if not 0 < value < math.inf:
        return _NO_NUMBER, f"{value:g}"
    share = (math.log10(value) - low) / (high - low)
    return f"hsl({250 - 190 * share:.0f} 65% {22 + 55 * share:.0f}%)", f"{value:.3g}"


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
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)


def _column_ticks(limits: tuple[float, float]) -> Ticks:
    last = WIDTH - RIGHT - 60  # the axis label covers what is right of it
    return [
        (round(x, 1), f"{value:g}")
        for value in _ticks(*limits)
        if limits[0] <= value <= limits[1] and (x := _x(value, limits)) < last
    ]


def _ticks(low: float, high: float) -> list[float]:
    """Return four to nine round numbers, from the last one up to `low` to the first from `high`."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    apart = next(power * step for step in (1, 2, 5, 10) if power * step >= rough * 0.999)
    first, last = math.floor(low / apart + 1e-9), math.ceil(high / apart - 1e-9)
    return [round(number * apart, 12) for number in range(first, last + 1)]
