"""report.html: one HTML file that a person reads and can send to someone else."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sagemaker_byoc.monitor.data.checks import DRIFT
from sagemaker_byoc.monitor.data.columns import percent, shown
from sagemaker_byoc.monitor.data.distributions import Sample, Values
from sagemaker_byoc.monitor.data.statistics import Feature, Profile, Statistics
from sagemaker_byoc.monitor.explanation import (
    Told,
    about_words,
    by_reason,
    drift_words,
    grouped_notes,
    groups,
    listed,
    notice_words,
    power_words,
    verdict,
)
from sagemaker_byoc.pages import charts, templates

FILE = "report.html"
SHOWN = 200
"""Columns that are drawn, those with violations first; the files have all."""
_NAMES_IN_A_CELL = 20
_BINS = 40
_HALVES = 2**52
"""Floats from here on are whole: there is nothing between two whole numbers."""


def data(profile: Profile, baseline: Statistics | None, why: Mapping[str, Any]) -> bytes:
    """Return the page of a run on data; `why` is explanation.json."""
    features = sorted(why["features"], key=lambda each: _order(each, why["not_compared"]))
    values = {
        "title": "Monitor: a window of traffic",
        "heading": "What the monitor saw",
        "why": why,
        "notices": notice_words(why["unread"]),
        "violations": _violations(why),
        "cards": [_card(each, profile, baseline, why) for each in features[:SHOWN]],
        "columns": len(features),
        "power": [line for each in why["power"] for line in power_words(each)],
        "most": SHOWN,
    }
    return _render("data", values, why, verdict(why))


def quality(why: Mapping[str, Any], told: str, lines: Sequence[str]) -> bytes:
    """Return the page of model quality: `told` is the verdict, `lines` are what follows it."""
    values = {
        "title": "Monitor: model quality",
        "heading": "What the monitor saw of the model",
        "lines": lines,
        "matrix": why["confusion_matrix"],
        "metrics": why["metrics"],
        "fired": {each["metric_name"] for each in why["violations"]},
        "shown": shown,
    }
    return _render("quality", values, why, told)


def attribution(why: Mapping[str, Any], told: str, lines: Sequence[str]) -> bytes:
    values = {
        "title": "Monitor: feature attributions",
        "heading": "What the model goes by",
        "lines": lines,
    }
    return _render("attribution", values, why, told)


def _render(name: str, values: Mapping[str, Any], why: Mapping[str, Any], told: str) -> bytes:
    reasons = by_reason(why["not_compared"]).items()
    shared = {
        "verdict": told[:1].upper() + told[1:],
        "kind": _verdict_class(why),
        "facts": [line.split(": ", 1) for line in about_words(why["about"])],
        "not_compared": [(listed(names, _NAMES_IN_A_CELL), reason) for reason, names in reasons],
    }
    return templates.render(f"monitor/report/{name}.html.j2", {**shared, **values})


def _verdict_class(why: Mapping[str, Any]) -> str:
    """Return green only if something was compared, and no column, metric or line was left out."""
    if why["violations"]:
        return "bad"
    is_partial = why.get("not_compared") or why.get("unread", {}).get("unread")
    return "neutral" if is_partial or not why["checks"] else "good"


def _violations(why: Mapping[str, Any]) -> list[tuple[str, Told, list[str]]]:
    """Return names of columns with the same violations, these, and notes on the values at fault.

    More than are shown, since the page counts the rest.
    """
    notes = {**why["notes"]}
    features = {each["name"]: each for each in why["features"]}
    found = []
    for names, told in groups(why):
        lines = grouped_notes(names, notes)
        if len(names) == 1 and names[0] in features and any(check == DRIFT for check, _ in told):
            lines += drift_words(features[names[0]])[:1]
        found.append((listed(names, _NAMES_IN_A_CELL), told, lines))
    return found


def _order(feature: Mapping[str, Any], left_out: Mapping[str, str]) -> tuple[bool, bool, float]:
    """Sort those with violations first, those not compared last, else the widest gap first."""
    drift = feature["drift"]
    return not feature["violations"], feature["name"] in left_out, -(drift["gap"] if drift else 0.0)


def _card(
    feature: Mapping[str, Any],
    profile: Profile,
    baseline: Statistics | None,
    why: Mapping[str, Any],
) -> dict[str, Any]:
    name = feature["name"]
    before = baseline.features.get(name) if baseline is not None else None
    column = profile.columns[name]
    now = Feature.of(column, column.kind)
    current = feature["current"]
    return {
        "name": name,
        "fired": ", ".join(dict.fromkeys(feature["violations"])),
        "reason": why["not_compared"].get(name, ""),
        "chart": _chart(before, now, is_whole=not column.fractional),
        "facts": [
            f"{current['present']:,} values, {current['missing']:,} missing",
            *drift_words(feature),
        ],
    }


# ── charts ──


def _chart(before: Feature | None, now: Feature, *, is_whole: bool) -> str:
    """Draw numbers over numbers, else categories, else the lengths of texts."""
    if now.kind.is_numeric or (before is not None and before.is_mixed):
        first = before.sample if before else None
        return _distributions(first, now.sample, now.name, is_whole=is_whole)
    if before is not None and before.lengths is not None and now.lengths is not None:
        return _distributions(before.lengths, now.lengths, f"{now.name}: lengths", is_whole=True)
    return _categories(before.categories if before else {}, now.categories, now.name)


def _distributions(before: Sample | None, now: Sample | None, label: str, *, is_whole: bool) -> str:
    samples = [each for each in (before, now) if each is not None and each.count]
    if not samples:
        return ""
    edges = _edges(samples, is_whole=is_whole)
    half = 0.5 if is_whole and not float(edges[0]).is_integer() else 0.0
    return charts.distributions(
        None if before is None else _shares(before, edges),
        None if now is None else _shares(now, edges),
        label,
        (shown(float(edges[0]) + half), shown(float(edges[-1]) - half)),
    )


def _categories(before: Mapping[str, int], now: Mapping[str, int], label: str) -> str:
    n, m = sum(before.values()) or 1, sum(now.values()) or 1
    shares = {
        name: (before.get(name, 0) / n, now.get(name, 0) / m)
        for name in dict.fromkeys((*before, *now))
    }
    return charts.pairs(shares, label, percent)


def _edges(samples: list[Sample], *, is_whole: bool) -> Values:
    """Return edges over the middle 99.8 % of both: one wild value does not hide the rest."""
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


def _shares(sample: Sample, edges: Values) -> list[float]:
    """Return the share of each bin; what is outside counts in the outermost bins."""
    weights = np.diff(sample.ranks, prepend=0.0)
    place = np.clip(np.searchsorted(edges, sample.values, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(place, weights=weights, minlength=len(edges) - 1)
    shares: list[float] = (counts / sample.count).tolist()
    return shares
