"""Two distributions over each other, as SVG text: no script, no font, nothing from outside."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from html import escape

import numpy as np

from sagemaker_byoc.monitor.data.columns import percent, shown
from sagemaker_byoc.monitor.data.sketch import Sample, Values

WIDTH, HEIGHT = 360, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 10, 22
_BINS = 40
_MOST_CATEGORIES = 12
_ROW = 18
_HALVES = 2**52
"""Floats from here on are whole: there is nothing between two whole numbers."""


def numeric(
    before: Sample | None, now: Sample | None, label: str, *, is_whole: bool = False
) -> str:
    """The baseline as bars, the present as a line; shares of each, over the same bins."""
    samples = [each for each in (before, now) if each is not None and each.count]
    if not samples:
        return ""
    edges = _edges(samples, is_whole=is_whole)
    shares = {
        "before": None if before is None else _shares(before, edges),
        "now": None if now is None else _shares(now, edges),
    }
    highest = max(float(each.max()) for each in shares.values() if each is not None) or 1.0
    width = (WIDTH - _LEFT - _RIGHT) / (len(edges) - 1)
    tall = HEIGHT - _TOP - _BOTTOM
    parts = []
    if shares["before"] is not None:
        for place, share in enumerate(shares["before"]):
            high = tall * float(share) / highest
            parts.append(
                f'<rect class="before" x="{_LEFT + place * width:.1f}" '
                f'y="{_TOP + tall - high:.1f}" width="{width + 0.2:.1f}" height="{high:.1f}"/>'
            )
    if shares["now"] is not None:
        points = []
        for place, share in enumerate(shares["now"]):
            y = _TOP + tall * (1 - float(share) / highest)
            points += [
                f"{_LEFT + place * width:.1f},{y:.1f}",
                f"{_LEFT + (place + 1) * width:.1f},{y:.1f}",
            ]
        parts.append(f'<polyline class="now" points="{" ".join(points)}"/>')
    half = 0.5 if is_whole and not float(edges[0]).is_integer() else 0.0
    first, last = shown(float(edges[0]) + half), shown(float(edges[-1]) - half)
    parts.append(
        f'<text x="{_LEFT}" y="{HEIGHT - 6}">{first}</text>'
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{last}</text>'
    )
    return _svg(HEIGHT, label, parts)


def categories(before: Mapping[str, int], now: Mapping[str, int], label: str) -> str:
    """The largest categories of both, two bars each."""
    n, m = sum(before.values()) or 1, sum(now.values()) or 1
    shares = {
        name: (before.get(name, 0) / n, now.get(name, 0) / m)
        for name in dict.fromkeys((*before, *now))
    }
    if not shares:
        return ""
    shown = sorted(shares, key=lambda name: max(shares[name]), reverse=True)[:_MOST_CATEGORIES]
    left = 110
    widest = max(max(shares[name]) for name in shown) or 1.0
    parts = []
    for row, name in enumerate(shown):
        y = _TOP + row * _ROW
        text = name if len(name) <= 16 else name[:15] + "…"
        parts.append(f'<text x="{left - 6}" y="{y + 11}" text-anchor="end">{escape(text)}</text>')
        for kind, share, offset in zip(("before", "now"), shares[name], (0, 8), strict=True):
            long = (WIDTH - left - 50) * share / widest
            parts.append(
                f'<rect class="{kind} bar" x="{left}" y="{y + offset}" width="{long:.1f}" '
                f'height="7"><title>{escape(name)}: {percent(share)}</title></rect>'
            )
    return _svg(_TOP * 2 + _ROW * len(shown), label, parts)


def _edges(samples: list[Sample], *, is_whole: bool) -> Values:
    """Over the middle 99.8 % of both, so that one wild value does not hide the rest."""
    ends = [each.quantiles(np.array([0.001, 0.999])) for each in samples]
    low, high = float(min(end[0] for end in ends)), float(max(end[1] for end in ends))
    if is_whole and high - low < 1e9 and max(-low, high) < _HALVES:
        step = max(1, round((high - low) / _BINS))  # the same number of whole numbers in each bin
        return np.arange(low - 0.5, high + 0.5 + step, step)
    if not high > low:
        margin = abs(low) * 0.1 or 1.0
        low, high = max(low - margin, -sys.float_info.max), min(high + margin, sys.float_info.max)
    place = np.linspace(0.0, 1.0, _BINS + 1)
    return np.asarray(low * (1 - place) + high * place)


def _shares(sample: Sample, edges: Values) -> Values:
    """What lies outside counts in the outermost bins."""
    weights = np.diff(sample.ranks, prepend=0.0)
    place = np.clip(np.searchsorted(edges, sample.values, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(place, weights=weights, minlength=len(edges) - 1) / sample.count


def _svg(height: int, label: str, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )
