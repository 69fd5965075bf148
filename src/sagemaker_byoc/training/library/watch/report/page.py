"""The watch's page: one HTML file that a person reads and can send to someone else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.pages import charts, templates
from sagemaker_byoc.training.library.watch.panel import Panel
from sagemaker_byoc.training.library.watch.report.journal import History, Journal
from sagemaker_byoc.training.library.watch.rules.base import Rule
from sagemaker_byoc.training.library.watch.rules.registry import parameters_of

MOST_OPTIMIZERS = 8
"""Optimizers whose gradients are drawn."""
SHOWN = 200
"""Findings in the table; the file has all."""

Verdict = tuple[str, str]
"""The class of its color, and its text."""


def write_page(  # noqa: PLR0913, PLR0917 - what there is to show
    path: Path,
    panel: Panel,
    journal: Journal,
    history: History,
    about: str,
    unseen: Sequence[str] = (),
) -> None:
    """Raise OSError, and MachineError if Jinja2 is missing."""
    write_atomically(path, page(panel, journal, history, about, unseen))


def page(
    panel: Panel, journal: Journal, history: History, about: str, unseen: Sequence[str] = ()
) -> bytes:
    """`about` names the training; `unseen` is what could not be looked at."""
    return templates.render(
        "training/library/watch/report/watch.html.j2",
        {
            "title": "Watch: a training",
            "about": about,
            "verdict": _verdict(panel, journal, is_whole=not unseen),
            "unseen": [one[:1].upper() + one[1:] for one in unseen],
            "findings": [
                (one, journal.counts[one.rule, one.tensor]) for one in journal.kept[:SHOWN]
            ],
            "more": len(journal.kept) - SHOWN,
            "charts": {title: svg for title, svg in _charts(history).items() if svg},
            "rules": [
                (
                    rule.name,
                    _rule_verdict(rule, panel, journal),
                    panel.judged(rule.name),
                    _parameters(rule),
                )
                for rule in panel.rules
            ],
        },
    )


def _verdict(panel: Panel, journal: Journal, *, is_whole: bool) -> Verdict:
    """Good only if there was something to judge, and nothing was left out."""
    fired = sorted({finding.rule for finding in journal.kept})
    if fired:
        found = f"{len(fired)} of {len(panel.rules)} rules found something: {', '.join(fired)}"
        return "bad", found
    judging = [rule for rule in panel.rules if panel.judged(rule.name)]
    if not judging:
        return "bad", "No rule had anything to judge."
    idle = len(panel.rules) - len(judging)
    more = f" {idle} more had nothing to judge, or too little." if idle else ""
    return "good" if is_whole else "soft", f"None of {len(judging)} rules found anything.{more}"


def _rule_verdict(rule: Rule, panel: Panel, journal: Journal) -> Verdict:
    count = sum(times for (name, _), times in journal.counts.items() if name == rule.name)
    if rule.name in panel.broken:
        return "bad", "off: it failed, see the log"
    if count:
        return "bad", f"fired {count} times"
    if not panel.judged(rule.name):
        why = "too little to compare" if panel.looked.get(rule.name) else "had nothing to look at"
        return "soft", rule.needs or why
    return "good", "quiet"


def _charts(history: History) -> dict[str, Any]:
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
    return {
        "Loss": charts.lines(losses, "step"),
        **_heats(history),
        "The system, percent": charts.lines(system, "seconds", limits=(0, 100)),
    }


def _heats(history: History) -> dict[str, Any]:
    """Two charts for each optimizer, whose steps are its own."""
    found = {}
    for number in sorted(history.gradients)[:MOST_OPTIMIZERS]:
        of = f" (optimizer {number})" if len(history.gradients) > 1 else ""
        gradients = history.gradients[number].points
        found[f"Gradients{of}: mean of absolute values"] = charts.heat(gradients, "gradients")
        updates = [point for point in history.updates[number].points if point[1]]
        title = f"Relative change of weights{of} in one step"
        found[title] = charts.heat(updates, "update ratios")
    return found


def _parameters(rule: Rule) -> str:
    shown = parameters_of(rule)
    return ", ".join(f"{name}={value}" for name, value in shown.items() if value not in (None, ""))
