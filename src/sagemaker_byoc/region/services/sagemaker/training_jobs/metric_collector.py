"""Metrics of a job: each definition's regex in each log line, for CloudWatch and the last of each.

The package regex searches, since it has a time limit and lets other threads run meanwhile. One
search of the standard library can take forever, and block the whole region.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import regex as re

from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.wire.operations import AwsError

LINE_LIMIT = 16_384
"""Characters of a line that are searched."""
SEARCH_SECONDS = 1.0
"""Limit of one search; a definition that takes longer is dropped, and reported at the end."""


@dataclass(frozen=True, slots=True)
class Value:
    value: float
    time: datetime


def compile_definitions(definitions: Mapping[str, str]) -> dict[str, Any]:
    """Return the compiled patterns; raise AwsError for a regex that can't be compiled."""
    compiled = {}
    for name, text in definitions.items():
        try:
            compiled[name] = re.compile(text)
        except re.error as error:
            raise AwsError(
                "ValidationException",
                f"Metric definition {name!r}: {text!r} is not a regex: {error}",
            ) from error
    return compiled


def _ignore(_name: str, _value: float) -> None: ...


class MetricCollector:
    """The metrics of a job. `see` is called from the threads of all hosts."""

    def __init__(
        self, definitions: Mapping[str, Any], put: Callable[[str, float], None] = _ignore
    ) -> None:
        """Find `definitions` by name; `put` gets every value."""
        self._definitions = definitions
        self._put = put
        self._last: dict[str, Value] = {}
        self._unreadable: dict[str, str] = {}
        self._given_up: set[str] = set()
        self._lock = threading.Lock()

    def see(self, line: str) -> None:
        for name, pattern in self._definitions.items():
            found = self._search(name, pattern, line)
            if found is None:
                continue
            text = found[1] if pattern.groups and found[1] is not None else ""
            value = _number(text)
            if value is None or not math.isfinite(value):  # JSON has no NaN, nor has CloudWatch
                why = "which is not a number" if value is None else "which is not a finite number"
                self._unreadable.setdefault(name, f"{text!r}, {why}")
                continue
            with self._lock:
                self._last[name] = Value(value, now())
            self._put(name, value)

    def _search(self, name: str, pattern: Any, line: str) -> Any:
        if name in self._given_up:
            return None
        try:
            return pattern.search(line, 0, LINE_LIMIT, timeout=SEARCH_SECONDS, concurrent=True)
        except TimeoutError:
            self._given_up.add(name)
            return None

    @property
    def last(self) -> dict[str, Value]:
        """The last values, in the order of the definitions."""
        with self._lock:
            return {name: self._last[name] for name in self._definitions if name in self._last}

    def warnings(self) -> list[str]:
        """Return a sentence for each definition that found no number, which AWS does not report."""
        sentences = []
        for name, pattern in self._definitions.items():
            if name in self._given_up:
                why = f"took more than {SEARCH_SECONDS:.0f} s for one line, and was given up"
            elif name in self._last:
                continue
            elif not pattern.groups:
                why = "has no group ( ) around the number"
            elif name in self._unreadable:
                why = f"found {self._unreadable[name]}"
            else:
                why = "matched no line of the log"
            sentences.append(f"metric {name!r}: its regex {pattern.pattern!r} {why}")
        return sentences


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
