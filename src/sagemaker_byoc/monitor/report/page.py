"""report.html: one file without scripts, which a person reads and can send to another one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from sagemaker_byoc.monitor.data.checks import DRIFT
from sagemaker_byoc.monitor.data.profile import Profile
from sagemaker_byoc.monitor.data.statistics import Feature, Statistics
from sagemaker_byoc.monitor.report import charts
from sagemaker_byoc.monitor.report.words import (
    Told,
    about_words,
    by_reason,
    count,
    drift_words,
    grouped_notes,
    groups,
    listed,
    notice_words,
    power_words,
    verdict,
)

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
td:first-child { max-width: 24rem; } th { font-weight: 600; } th, .check { white-space: nowrap; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: .8rem; }
.card { background: var(--card); border: 1px solid var(--line); padding: .7rem .8rem; }
.card.fired { border-left: 4px solid var(--bad); } .card p { font-size: 13px; }
.card.skipped { border-left: 4px solid var(--soft); } .card.skipped svg { opacity: .55; }
.neutral { color: var(--soft); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 .8rem; margin: .6rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } td.number { text-align: right; white-space: nowrap; }
table.matrix { width: auto; } .matrix td { text-align: right; white-space: nowrap; }
.matrix th { max-width: 12rem; overflow: hidden; text-overflow: ellipsis; }
.matrix td.cell { background: color-mix(in srgb, var(--heat) var(--share), var(--card)); }
.right { --heat: #15803d; } .wrong { --heat: #b91c1c; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.before { fill: var(--before); } .now { fill: none; stroke: var(--now); stroke-width: 2; }
rect.now { fill: var(--now); stroke: none; }
.key { display: inline-block; width: .8em; height: .8em; background: var(--before); }
.key.line { background: var(--now); }
"""


def page(profile: Profile, baseline: Statistics | None, why: Mapping[str, Any]) -> bytes:
    """`why` is explanation.json."""
    parts = (
        head("What the monitor saw", verdict(why), verdict_class(why), why["about"]),
        f"<p>{why['rows']:,} rows against a baseline of {why['baseline_rows']:,}.</p>",
        _unread(why["unread"]),
        _violations(why),
        not_compared(why["not_compared"]),
        _columns(profile, baseline, why),
        _power(why),
    )
    return whole("Monitor: a window of traffic", "".join(parts))


def whole(title: str, body: str) -> bytes:
    """A lone surrogate, which JSON can name and UTF-8 can't, becomes a question mark."""
    written = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f'<style>{STYLE}</style>{body}<p class="soft">Written {written}.</p></html>\n'
    )
    return text.encode("utf-8", "replace")


def head(title: str, told: str, kind: str, about: Mapping[str, Any]) -> str:
    """The heading, the verdict in the colour `kind`, and what the report is about."""
    pairs = (line.split(": ", 1) for line in about_words(about))
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in pairs)
    return (
        f'<h1>{escape(title)}</h1><p class="{kind}">{escape(told[:1].upper() + told[1:])}.</p>'
        f"<dl>{facts}</dl>"
    )


def verdict_class(why: Mapping[str, Any]) -> str:
    """Green only if something was compared, and nothing was left out: no column, metric or line."""
    if why["violations"]:
        return "bad"
    is_partial = why.get("not_compared") or why.get("unread", {}).get("unread")
    return "neutral" if is_partial or not why["checks"] else "good"


def _unread(unread: Mapping[str, Any]) -> str:
    """The lines that were lost, and those that were read otherwise than they stand in the files."""
    notices = paragraphs(notice_words(unread))
    if not unread["unread"]:
        return notices
    lines = "".join(
        f"<li>{each['lines']:,} {escape(each['reason'])} (first: {escape(each['first'])})</li>"
        for each in unread["reasons"]
    )
    told = f"{count(unread['unread'], 'line')} of {unread['lines']:,} could not be used:"
    return f'{notices}<p class="bad">{told}</p><ul>{lines}</ul>'


def _violations(why: Mapping[str, Any]) -> str:
    notes = {**why["notes"]}
    features = {each["name"]: each for each in why["features"]}
    rows = [_violation(names, told, notes, features) for names, told in groups(why)]
    if not rows:
        return ""
    return (
        "<h2>Violations</h2><div class=scroll><table>"
        "<tr><th>column</th><th>check</th><th>what</th></tr>"
        f"{''.join(rows[:SHOWN])}</table></div>{_more(len(rows), 'rows in the files')}"
    )


def _violation(
    names: list[str], told: Told, notes: dict[str, list[str]], features: Mapping[str, Any]
) -> str:
    """The rows of the columns that have the same violations, with the values at fault."""
    lines = grouped_notes(names, notes)
    if len(names) == 1 and names[0] in features and any(check == DRIFT for check, _ in told):
        lines += drift_words(features[names[0]])[:1]
    remarks = "".join(map(_soft, lines))
    column = f'<td rowspan="{len(told)}">{escape(listed(names, 20))}</td>'
    rows = [
        f"<td class=check>{escape(check)}</td><td>{escape(text)}{remarks if not place else ''}</td>"
        for place, (check, text) in enumerate(told)
    ]
    return f"<tr>{column}{'</tr><tr>'.join(rows)}</tr>"


def not_compared(reasons: Mapping[str, str], what: str = "column") -> str:
    """A table of what was left out, by reason."""
    if not reasons:
        return ""
    rows = "".join(
        f"<tr><td>{escape(listed(names, 20))}</td><td>{escape(reason)}</td></tr>"
        for reason, names in by_reason(reasons).items()
    )
    return (
        f'<h2>Not compared</h2><table class="soft"><tr><th>{what}</th><th>why</th></tr>{rows}'
        "</table>"
    )


def _more(number: int, what: str) -> str:
    return f'<p class="soft">and {number - SHOWN:,} more {what}</p>' if number > SHOWN else ""


def _soft(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'


def _columns(profile: Profile, baseline: Statistics | None, why: Mapping[str, Any]) -> str:
    features = sorted(why["features"], key=lambda each: _order(each, why["not_compared"]))
    cards = "".join(_card(each, profile, baseline, why) for each in features[:SHOWN])
    return (
        '<h2>Columns</h2><p class="soft"><span class="key"></span> baseline &nbsp; '
        '<span class="key line"></span> now; shares of each, over the middle 99.8 % of both</p>'
        f'<div class="grid">{cards}</div>{_more(len(features), "columns in the files")}'
    )


def _order(feature: Mapping[str, Any], left_out: Mapping[str, str]) -> tuple[bool, bool, float]:
    """Those with violations first, those that were not compared last, else the widest gap first."""
    drift = feature["drift"]
    return not feature["violations"], feature["name"] in left_out, -(drift["gap"] if drift else 0.0)


def _card(
    feature: Mapping[str, Any],
    profile: Profile,
    baseline: Statistics | None,
    why: Mapping[str, Any],
) -> str:
    name = feature["name"]
    before = baseline.features.get(name) if baseline is not None else None
    column = profile.columns[name]
    now = Feature.of(column, column.kind)
    current = feature["current"]
    facts = [f"{current['present']:,} values, {current['missing']:,} missing"]
    facts += drift_words(feature)
    reason = why["not_compared"].get(name, "")
    fired = ", ".join(dict.fromkeys(feature["violations"]))
    kind = "fired" if fired else "skipped" if reason else ""
    return (
        f'<div class="card {kind}"><h3>{escape(name)}</h3>'
        f"{f'<p class=bad>{escape(fired)}</p>' if fired else ''}"
        f"{f'<p class=neutral>not compared: {escape(reason)}</p>' if reason else ''}"
        f"{_picture(before, now, is_whole=not column.fractional)}"
        f"{''.join(_soft(text) for text in facts)}</div>"
    )


def _picture(before: Feature | None, now: Feature, *, is_whole: bool) -> str:
    """Numbers over numbers, else categories, else the lengths of texts."""
    if now.kind.is_numeric or (before is not None and before.is_mixed):
        first = before.sample if before else None
        return charts.numeric(first, now.sample, now.name, is_whole=is_whole)
    categories = before.categories if before else {}
    if before is not None and before.lengths is not None and now.lengths is not None:
        return charts.numeric(before.lengths, now.lengths, f"{now.name}: lengths", is_whole=True)
    return charts.categories(categories, now.categories, now.name)


def _power(why: Mapping[str, Any]) -> str:
    texts = (line for each in why["power"] for line in power_words(each))
    told = paragraphs(texts)
    return f"<h2>What these tests can see</h2>{told}" if told else ""


def paragraphs(lines: Iterable[str]) -> str:
    """What is indented for a terminal is soft here."""
    return "".join(
        _soft(line) if line.startswith(" ") else f"<p>{escape(line)}</p>" for line in lines if line
    )
