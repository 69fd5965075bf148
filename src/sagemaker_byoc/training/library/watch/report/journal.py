"""Findings and series of one training: kept for the page.

Findings also go to a file, the job's log and a webhook: each rule and tensor once, then counted.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Full, Queue
from typing import Generic, TextIO, TypeVar

from sagemaker_byoc.training.library.outputs import append
from sagemaker_byoc.training.library.watch.rules.base import Finding, Loss, Reading

MOST = 10_000
"""Findings that are kept and written; more are only counted."""
WEBHOOK_SECONDS = 10.0
WAITING = 100


class Journal:
    """Threads may share it."""

    def __init__(
        self, file: Path, *, webhook: str | None = None, say: Callable[[str], None] | None = None
    ) -> None:
        self._file = file
        self._say = say or say_to_log
        self._lock = threading.Lock()
        self._webhook = Webhook(webhook, self._say) if webhook else None
        self._told: set[str] = set()
        self.kept: list[Finding] = []
        self.counts: Counter[tuple[str, str]] = Counter()
        """How often each rule fired for each tensor."""

    def add(self, findings: Iterable[Finding]) -> list[Finding]:
        """Those among them that are new."""
        now = time.time()
        with self._lock:
            new = []
            for finding in findings:
                key = (finding.rule, finding.tensor)
                self.counts[key] += 1
                if self.counts[key] == 1 and len(self.kept) < MOST:
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
            self._say(finding.sentence() + (f" (and {more} more like it)" if more else ""))
            if self._webhook and rule not in self._told:
                self._webhook.send(finding)
            self._told.add(rule)
        try:
            append(self._file, "".join(one.line() + "\n" for one in new).encode())
        except OSError as error:
            self._say(f"{self._file} can't be written: {error.strerror}")


def say_to_log(text: str, stream: TextIO | None = None) -> None:
    """In one write, or the lines of several ranks would run into each other; on stderr."""
    with suppress(OSError, ValueError, AttributeError):  # closed, or never there
        stream = stream or sys.stderr
        stream.write(f"byoc watch: {text}\n")
        stream.flush()


class Webhook:
    """POSTs findings as JSON with a `text` for chat rooms; never waited for but at the end."""

    def __init__(self, address: str, say: Callable[[str], None]) -> None:
        self._address = address
        self._say = say
        self._queue: Queue[Finding | None] = Queue(WAITING)
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
                self._say(f"the webhook did not take a finding: {error}")


T = TypeVar("T")
POINTS = 512


class Series(Generic[T]):
    """At most `POINTS` of everything that was added, about evenly apart."""

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
    losses: dict[str, Series[tuple[int, float]]] = field(default_factory=dict)
    """Losses by mode; those of further optimizers have their numbers."""
    gradients: dict[int, Series[tuple[int, dict[str, float]]]] = field(
        default_factory=lambda: defaultdict(Series)
    )
    """Mean absolute value of each gradient, by the number of the optimizer."""
    updates: dict[int, Series[tuple[int, dict[str, float]]]] = field(
        default_factory=lambda: defaultdict(Series)
    )
    readings: Series[Reading] = field(default_factory=Series)

    def loss(self, seen: Loss) -> None:
        name = seen.mode if seen.name == "loss" else f"{seen.mode}, {seen.name}"
        self.losses.setdefault(name, Series()).add((seen.step, seen.value))
