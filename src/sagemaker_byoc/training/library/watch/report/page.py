"""The page: one file without scripts that a person reads, and that can be sent to another one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.training.library.watch.panel import Panel
from sagemaker_byoc.training.library.watch.report import charts
from sagemaker_byoc.training.library.watch.report.history import History
from sagemaker_byoc.training.library.watch.report.journal import Journal
from sagemaker_byoc.training.library.watch.rules.base import Rule
from sagemaker_byoc.training.library.watch.rules.registry import parameters_of

MOST_OPTIMIZERS = 8
"""Optimizers whose gradients are drawn."""
SHOWN = 200
"""Findings in the table; the file has all."""
STYLE = """
:root { color-scheme: light dark; --ink: #0f172a; --soft: #64748b; --line: #e2e8f0; --card: #fff;
  --page: #f8fafc; --bad: #b91c1c; --good: #15803d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e2e8f0; --soft: #94a3b8; --line: #334155;
  --card: #1e293b; --page: #0f172a; --bad: #f87171; --good: #4ade80; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  margin: 0 auto; max-width: 60rem; padding: 2rem 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); }
.bad { color: var(--bad); font-weight: 600; } .good { color: var(--good); font-weight: 600; }
table { border-collapse: collapse; width: 100%; background: var(--card); font-size: 14px; }
th, td { text-align: left; padding: .35rem .6rem; border: 1px solid var(--line);
  vertical-align: top; }
th { font-weight: 600; white-space: nowrap; } td code { overflow-wrap: anywhere; }
 td.number { text-align: right; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
svg { box-sizing: border-box; width: 100%; min-width: 34rem; height: auto; background: var(--card);
  border: 1px solid var(--line); }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
svg .grid { stroke: var(--line); }
code { font-size: 13px; }
"""


def write_page(  # noqa: PLR0913, PLR0917 - what there is to show
    path: Path,
    panel: Panel,
    journal: Journal,
    history: History,
    about: str,
    unseen: Sequence[str] = (),
) -> None:
    write_atomically(path, page(panel, journal, history, about, unseen).encode())


def page(
    panel: Panel, journal: Journal, history: History, about: str, unseen: Sequence[str] = ()
) -> str:
    """`about` says of which training; `unseen` what could not be looked at."""
    head = _head(panel, journal, is_whole=not unseen)
    head += "".join(f"<p>{escape(one[:1].upper() + one[1:])}.</p>" for one in unseen)
    written = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Watch: a training</title>'
        f"<style>{STYLE}</style><h1>What the watch saw</h1>{head}"
        f'<p class="soft">{escape(about)}; written {written}</p>'
        f"{_findings(journal)}{_pictures(history)}{_rules(panel, journal)}</html>\n"
    )


def _head(panel: Panel, journal: Journal, *, is_whole: bool) -> str:
    """The verdict: good only if there was something to judge, and nothing was left out."""
    fired = sorted({finding.rule for finding in journal.kept})
    if fired:
        return (
            f'<p class="bad">{len(fired)} of {len(panel.rules)} rules found something: '
            f"{', '.join(fired)}</p>"
        )
    judging = [rule for rule in panel.rules if panel.judged(rule.name)]
    if not judging:
        return '<p class="bad">No rule had anything to judge.</p>'
    idle = len(panel.rules) - len(judging)
    more = f" {idle} more had nothing to judge, or too little." if idle else ""
    kind = "good" if is_whole else "soft"
    return f'<p class="{kind}">None of {len(judging)} rules found anything.{more}</p>'


def _findings(journal: Journal) -> str:
    if not journal.kept:
        return ""
    rows = "".join(
        f"<tr><td>{escape(one.rule)}</td><td class=number>{one.step}</td>"
        f"<td><code>{escape(one.tensor)}</code></td>"
        f"<td>{escape(one.verdict)}</td>"
        f"<td class=number>{journal.counts[one.rule, one.tensor]}</td>"
        f"<td>{escape(one.advice)}</td></tr>"
        for one in journal.kept[:SHOWN]
    )
    more = len(journal.kept) - SHOWN
    note = f'<p class="soft">and {more} more in findings.jsonl</p>' if more > 0 else ""
    return (
        '<h2>Findings</h2><div class="wide"><table><tr><th>rule<th>first at step<th>where<th>what'
        f"<th>times<th>what helps</tr>{rows}</table></div>{note}"
    )


def _pictures(history: History) -> str:
    readings = history.readings.points
    start = readings[0].time if readings else 0.0
    system = {
        "processors": [
            (one.time - start, sum(one.cpus) / len(one.cpus)) for one in readings if one.cpus
        ],
        "memory": [(one.time - start, one.memory) for one in readings],
        **{
            f"gpu{number}": [(one.time - start, one.gpus[number]) for one in readings]
            for number in range(min((len(one.gpus) for one in readings), default=0))
        },
    }
    losses = {name: [*series.points] for name, series in history.losses.items()}
    pictures = {
        "Loss": charts.lines(losses, "step"),
        **_heats(history),
        "The system, percent": charts.lines(system, "seconds", limits=(0, 100)),
    }
    return "".join(
        f'<h2>{title}</h2><div class="wide">{svg}</div>' for title, svg in pictures.items() if svg
    )


def _heats(history: History) -> dict[str, str]:
    """Two pictures for each optimizer, whose steps are its own."""
    found = {}
    for number in sorted(history.gradients)[:MOST_OPTIMIZERS]:
        of = f" (optimizer {number})" if len(history.gradients) > 1 else ""
        gradients = history.gradients[number].points
        found[f"Gradients{of}: mean of absolute values"] = charts.heat(gradients, "gradients")
        updates = [point for point in history.updates[number].points if point[1]]
        title = f"How much of themselves weights{of} change in one step"
        found[title] = charts.heat(updates, "update ratios")
    return found


def _rules(panel: Panel, journal: Journal) -> str:
    rows = "".join(
        f"<tr><td>{rule.name}</td><td>{_verdict(rule, panel, journal)}</td>"
        f"<td class=number>{panel.judged(rule.name)}</td>"
        f"<td><code>{escape(_parameters(rule))}</code></td></tr>"
        for rule in panel.rules
    )
    return (
        "<h2>All rules, with the values that they used</h2>"
        '<div class="wide"><table><tr><th>rule<th>verdict<th>judged<th>parameters</tr>'
        f"{rows}</table></div>"
    )


def _verdict(rule: Rule, panel: Panel, journal: Journal) -> str:
    count = sum(times for (name, _), times in journal.counts.items() if name == rule.name)
    if rule.name in panel.broken:
        return '<span class="bad">off: it failed, see the log</span>'
    if count:
        return f'<span class="bad">fired {count} times</span>'
    if not panel.judged(rule.name):
        why = "too little to compare" if panel.looked.get(rule.name) else "had nothing to look at"
        return f'<span class="soft">{rule.needs or why}</span>'
    return '<span class="good">quiet</span>'


def _parameters(rule: Rule) -> str:
    shown = parameters_of(rule)
    return ", ".join(f"{name}={value}" for name, value in shown.items() if value not in (None, ""))
