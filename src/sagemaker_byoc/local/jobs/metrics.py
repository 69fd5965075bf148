"""Metrics of a job: each definition's regex in each log line, the last value of each."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sagemaker_byoc.local.records import now
from sagemaker_byoc.local.wire.errors import AwsError

LINE_LIMIT = 16_384
"""Characters of a line that are searched."""


@dataclass(frozen=True, slots=True)
class Value:
    value: float
    time: datetime


def compile_definitions(definitions: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    """Raises AwsError for a regex that is none, or has no group to take the number from."""
    compiled = {}
    for name, regex in definitions.items():
        try:
            compiled[name] = re.compile(regex)
        except re.error as error:
            raise AwsError(
                "ValidationException", f"Metric definition {name!r}: {regex!r} is no regex: {error}"
            ) from error
    return compiled


class MetricCollector:
    """Fed with the lines of all hosts, from their threads."""

    def __init__(self, definitions: Mapping[str, re.Pattern[str]]) -> None:
        self._definitions = definitions
        self._last: dict[str, Value] = {}
        self._unreadable: dict[str, str] = {}
        self._lock = threading.Lock()

    def see(self, line: str) -> None:
        for name, pattern in self._definitions.items():
            found = pattern.search(line, 0, LINE_LIMIT)
            if found is None:
                continue
            text = found[1] if pattern.groups and found[1] is not None else ""
            try:
                value = float(text)
            except ValueError:
                self._unreadable.setdefault(name, text)
                continue
            with self._lock:
                self._last[name] = Value(value, now())

    @property
    def last(self) -> dict[str, Value]:
        """In the order of the definitions."""
        with self._lock:
            return {name: self._last[name] for name in self._definitions if name in self._last}

    def warnings(self) -> list[str]:
        """A sentence for each definition that gave no number: a cloud tells nobody."""
        sentences = []
        for name, pattern in self._definitions.items():
            if name in self._last:
                continue
            if not pattern.groups:
                why = "has no group ( ) around the number"
            elif name in self._unreadable:
                why = f"found {self._unreadable[name]!r}, which is no number"
            else:
                why = "matched no line of the log"
            sentences.append(f"metric {name!r}: its regex {pattern.pattern!r} {why}")
        return sentences
