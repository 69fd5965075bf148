"""What the watch reports: findings and series of a training, and the page that shows them.

Findings also go to a file, the job's log and a webhook: each rule and tensor once, then counted.
The page is one HTML file that a person reads and can send to someone else.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from queue import Full, Queue
from typing import Any, Generic, TypeVar

from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.pages import charts, templates
from sagemaker_byoc.training.library.outputs import append
from sagemaker_byoc.training.library.watch.panel import Panel
from sagemaker_byoc.training.library.watch.rules.base import (
    Finding,
    Loss,
    Reading,
    Rule,
    say_to_log,
)

T = TypeVar("T")

POINTS = 512
MOST_KEPT = 10_000
"""Findings that are kept and written; further ones are only counted."""
WEBHOOK_SECONDS = 10.0
MOST_WAITING = 100
"""Findings that wait for the webhook."""
MOST_OPTIMIZERS = 8
"""Optimizers whose gradients are drawn."""
MOST_SHOWN = 200
"""Findings in the table; the file has all."""

Verdict = tuple[str, str]
"""The class of its color, and its text."""


class Journal:
    """The findings so far. Threads may share it."""

    def __init__(self, file: Path, *, webhook: str | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._webhook = Webhook(webhook) if webhook else None
        self._told: set[str] = set()
        self.kept: list[Finding] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        """How often each rule fired for each tensor."""

    def add(self, findings: Iterable[Finding]) -> list[Finding]:
        """Count all, keep and report the new ones, and return these."""
        now = time.time()
        with self._lock:
            new = []
            for finding in findings:
                key = (finding.rule, finding.tensor)
                self.counts[key] += 1
                if self.counts[key] == 1 and len(self.kept) < MOST_KEPT:
                    new.append(replace(finding, time=now))
                    self.kept.append(new[-1])
            if new:
                self._write(new)
        return new

    def close(self) -> None:
        if self._webhook:
            self._webhook.close()

    def _write(self, new: list[Finding]) -> None:
        first: dict[str, Finding] = {}
        for finding in new:
            first.setdefault(finding.rule, finding)
        for rule, finding in first.items():
            more = sum(one.rule == rule for one in new) - 1
            say_to_log(finding.sentence() + (f" (and {more} more like it)" if more else ""))
            if self._webhook and rule not in self._told:
                self._webhook.send(finding)
            self._told.add(rule)
        try:
            append(self._file, "".join(one.line() + "\n" for one in new).encode())
        except OSError as error:
            say_to_log(f"{self._file} can't be written: {error.strerror}")


class Webhook:
    """A thread that POSTs findings as JSON with a `text` for chat rooms; only `close` waits."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._queue: Queue[Finding | None] = Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="byoc-webhook", daemon=True)
        self._thread.start()

    def send(self, finding: Finding) -> None:
        try:
            self._queue.put_nowait(finding)
        except Full:
            return  # the log and the file have it

    def close(self) -> None:
        try:
            self._queue.put(None, timeout=WEBHOOK_SECONDS)
        except Full:
            return
        self._thread.join(WEBHOOK_SECONDS)

    def _run(self) -> None:
        while (finding := self._queue.get()) is not None:
            document = {"text": finding.sentence(), **json.loads(finding.line())}
            request = urllib.request.Request(  # noqa: S310 - the settings allow http and https only
                self._address,
                data=json.dumps(document).encode(),
                headers={"Content-Type": "application/json"},
            )
            try:
                with urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS):  # noqa: S310
                    pass
            except OSError as error:
                say_to_log(f"the webhook did not take a finding: {error}")


class Series(Generic[T]):
    """At most `POINTS` of all added points, at about equal distances."""

    def __init__(self) -> None:
        self.points: list[T] = []
        self._apart = 1
        self._count = 0

    def add(self, point: T) -> None:
        if self._count % self._apart == 0:
            self.points.append(point)
            if len(self.points) >= POINTS:
                del self.points[1::2]
                self._apart *= 2
        self._count += 1


@dataclass
class History:
    """The series that the page draws."""

    losses: dict[str, Series[tuple[int, float]]] = field(default_factory=dict)
    """Losses by mode and, from the second optimizer on, its number."""
    gradients: dict[int, Series[tuple[int, dict[str, float]]]] = field(
        default_factory=lambda: defaultdict(Series)
    )
    """Mean absolute value of each gradient, by the optimizer's number."""
    updates: dict[int, Series[tuple[int, dict[str, float]]]] = field(
        default_factory=lambda: defaultdict(Series)
    )
    readings: Series[Reading] = field(default_factory=Series)

    def loss(self, seen: Loss) -> None:
        name = seen.mode if seen.name == "loss" else f"{seen.mode}, {seen.name}"
        self.losses.setdefault(name, Series()).add((seen.step, seen.value))


def write_page(  # noqa: PLR0913, PLR0917 - each is a part of the page
    path: Path,
    panel: Panel,
    journal: Journal,
    history: History,
    about: str,
    unseen: Sequence[str] = (),
) -> None:
    """Write the page; raise OSError, or MachineError if Jinja2 is missing."""
    write_atomically(path, page(panel, journal, history, about, unseen))


def page(
    panel: Panel, journal: Journal, history: History, about: str, unseen: Sequence[str] = ()
) -> bytes:
    """Render the page. `about` names the training; `unseen` is what could not be checked."""
    return templates.render(
        "training/library/watch/report.html.j2",
        {
            "title": "Watch: a training",
            "about": about,
            "verdict": _verdict(panel, journal, is_whole=not unseen),
            "unseen": [one[:1].upper() + one[1:] for one in unseen],
            "findings": [
                (one, journal.counts[one.rule, one.tensor]) for one in journal.kept[:MOST_SHOWN]
            ],
            "more": len(journal.kept) - MOST_SHOWN,
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
    """Return the whole page's verdict: good only if rules judged, and nothing was left out."""
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
    """Return two charts per optimizer, since each counts its own steps."""
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
    used = {one.name: getattr(rule, one.name) for one in fields(rule) if one.init}
    return ", ".join(f"{name}={value}" for name, value in used.items() if value not in (None, ""))
