"""report.html: one file without scripts that a person reads and can send to another one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from sagemaker_byoc.monitor import charts
from sagemaker_byoc.monitor.columns import Kind
from sagemaker_byoc.monitor.explanation import drift_words, power_words
from sagemaker_byoc.monitor.profile import Profile
from sagemaker_byoc.monitor.statistics import Feature, Statistics

FILE = "report.html"
SHOWN = 200
"""Columns that are drawn, those with violations first; the files have all."""
STYLE = """
:root { color-scheme: light dark; --ink: #0f172a; --soft: #64748b; --line: #e2e8f0; --card: #fff;
  --page: #f8fafc; --bad: #b91c1c; --good: #15803d; --before: #94a3b8; --now: #ea580c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e2e8f0; --soft: #94a3b8; --line: #334155;
  --card: #1e293b; --page: #0f172a; --bad: #f87171; --good: #4ade80; --before: #475569;
  --now: #fb923c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  margin: 0 auto; max-width: 66rem; padding: 2rem 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .3rem 0; } .soft { color: var(--soft); }
.bad { color: var(--bad); font-weight: 600; } .good { color: var(--good); font-weight: 600; }
table { border-collapse: collapse; width: 100%; background: var(--card); font-size: 14px; }
th, td { text-align: left; padding: .35rem .6rem; border: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; } th, .check { white-space: nowrap; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: .8rem; }
.card { background: var(--card); border: 1px solid var(--line); padding: .7rem .8rem; }
.card.fired { border-left: 4px solid var(--bad); } .card p { font-size: 13px; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.before { fill: var(--before); } .now { fill: none; stroke: var(--now); stroke-width: 2; }
rect.now { fill: var(--now); stroke: none; }
.key { display: inline-block; width: .8em; height: .8em; background: var(--before); }
.key.line { background: var(--now); }
"""


def page(profile: Profile, baseline: Statistics | None, why: Mapping[str, Any]) -> str:
    """`why` is explanation.json."""
    parts = (_head(why), _violations(why), _columns(profile, baseline, why), _power(why))
    return whole("Monitor: a window of traffic", f"<h1>What the monitor saw</h1>{''.join(parts)}")


def whole(title: str, body: str) -> str:
    written = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f'<style>{STYLE}</style>{body}<p class="soft">Written {written}.</p></html>\n'
    )


def verdict(violations: list[Mapping[str, Any]]) -> str:
    if not violations:
        return '<p class="good">No violation.</p>'
    return f'<p class="bad">{_count(len(violations), "violation")}.</p>'


def _head(why: Mapping[str, Any]) -> str:
    unread = why["unread"]
    lines = "".join(
        f"<li>{each['lines']:,} {escape(each['reason'])} (first: {escape(each['first'])})</li>"
        for each in unread["reasons"]
    )
    told = (
        f'<p class="bad">{_count(unread["unread"], "line")} of {unread["lines"]:,} could not be '
        f"used:</p><ul>{lines}</ul>"
        if unread["unread"]
        else ""
    )
    return (
        f"{verdict(why['violations'])}<p>{why['rows']:,} rows against a baseline of "
        f"{why['baseline_rows']:,}.</p>{told}"
    )


def _violations(why: Mapping[str, Any]) -> str:
    notes = {**why["notes"]}
    rows = "".join(
        f"<tr><td>{escape(each['feature_name'])}</td><td class=check>"
        f"{escape(each['constraint_check_type'])}</td><td>{escape(each['description'])}"
        f"{''.join(_soft(text) for text in notes.pop(each['feature_name'], ()))}</td></tr>"
        for each in why["violations"][:SHOWN]
    )
    if not rows:
        return ""
    more = len(why["violations"]) - SHOWN
    told = f'<p class="soft">and {more} more in the file</p>' if more > 0 else ""
    return (
        "<h2>Violations</h2><table><tr><th>column</th><th>check</th><th>what</th></tr>"
        f"{rows}</table>{told}"
    )


def _soft(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'


def _columns(profile: Profile, baseline: Statistics | None, why: Mapping[str, Any]) -> str:
    features = sorted(why["features"], key=_order)
    cards = "".join(_card(each, profile, baseline) for each in features[:SHOWN])
    more = len(features) - SHOWN
    told = f'<p class="soft">and {more} more columns in the files</p>' if more > 0 else ""
    return (
        '<h2>Columns</h2><p class="soft"><span class="key"></span> baseline &nbsp; '
        '<span class="key line"></span> now; shares of each, over the middle 99.8 % of both</p>'
        f'<div class="grid">{cards}</div>{told}'
    )


def _order(feature: Mapping[str, Any]) -> tuple[bool, float]:
    """Those with violations first, and of both kinds those that moved most."""
    drift = feature["drift"]
    return not feature["violations"], -(drift["gap"] if drift else 0.0)


def _card(feature: Mapping[str, Any], profile: Profile, baseline: Statistics | None) -> str:
    name = feature["name"]
    now = Feature.of(profile.columns[name], profile.columns[name].kind)
    before = baseline.features.get(name) if baseline is not None else None
    if now.kind.is_numeric:
        picture = charts.numeric(
            before.sample if before else None,
            now.sample,
            name,
            is_whole=now.kind is Kind.INTEGRAL,
        )
    else:
        picture = charts.categories(before.categories if before else {}, now.categories, name)
    current = feature["current"]
    facts = [f"{current['present']:,} values, {current['missing']:,} missing"]
    facts += drift_words(feature)
    fired = bool(feature["violations"])
    checks = ", ".join(dict.fromkeys(feature["violations"]))
    return (
        f'<div class="card{" fired" if fired else ""}"><h3>{escape(name)}</h3>'
        f"{f'<p class=bad>{escape(checks)}</p>' if fired else ''}{picture}"
        f"{''.join(_soft(text) for text in facts)}</div>"
    )


def _power(why: Mapping[str, Any]) -> str:
    texts = (line for each in why["power"] for line in power_words(each))
    told = paragraphs(texts)
    return f"<h2>What these tests can see</h2>{told}" if told else ""


def paragraphs(lines: Iterable[str]) -> str:
    """What is indented for a terminal is soft here."""
    return "".join(
        _soft(line) if line.startswith(" ") else f"<p>{escape(line)}</p>" for line in lines if line
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
