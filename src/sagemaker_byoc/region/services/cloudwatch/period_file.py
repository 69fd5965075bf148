"""The summaries of all metrics on disk, by the start and the length of their periods.

Periods are kept as long as AWS keeps them [model: GetMetricData]: of one second for 3 hours, one
minute for 15 days, five minutes for 63 days, one hour for 455 days. Then they are joined into the
next longer one, and at last deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from sagemaker_byoc.region.services.cloudwatch.database import Transaction, connect
from sagemaker_byoc.region.services.cloudwatch.metric import Metric
from sagemaker_byoc.region.services.cloudwatch.summaries import Summary

_HOUR, _DAY = 3600, 86_400
_STAGES = ((1, 60, 3 * _HOUR), (60, 300, 15 * _DAY), (300, _HOUR, 63 * _DAY))
"""Periods of the first length become periods of the second at an age."""
OLDEST = 455 * _DAY

_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (id INTEGER PRIMARY KEY, identity TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS periods (
  series INTEGER, time INTEGER, seconds INTEGER,
  count REAL, total REAL, minimum REAL, maximum REAL, samples BLOB,
  PRIMARY KEY (series, time, seconds)
) WITHOUT ROWID;
"""
_SERIES = """
SELECT id, identity, (SELECT max(time) FROM periods WHERE periods.series = series.id) FROM series
"""
_WRITE = "INSERT OR REPLACE INTO periods VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_READ = """
SELECT time, count, total, minimum, maximum, samples FROM periods
WHERE series = ? AND time >= ? AND time < ? AND seconds <= ?
"""
_READ_ONE = """
SELECT count, total, minimum, maximum, samples FROM periods
WHERE series = ? AND time = ? AND seconds = ?
"""
_READ_OLD = """
SELECT time, count, total, minimum, maximum, samples FROM periods
WHERE series = ? AND time < ? AND seconds = ?
"""
_DELETE_OLD = "DELETE FROM periods WHERE series = ? AND time < ? AND seconds = ?"


@dataclass(slots=True)
class Series:
    """A metric in one unit. Its number in the file is 0 until it is first written."""

    metric: Metric
    unit: str
    number: int = 0
    last: int = 0
    """The start of its newest period, in seconds since 1970."""


Periods: TypeAlias = dict[tuple[int, int], Summary]
"""Summaries by the start and the length of their periods, in seconds."""


class PeriodFile:
    """One SQLite file. The caller keeps threads apart; methods raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._database = connect(path, _SCHEMA)

    def series(self) -> Iterator[Series]:
        for number, identity, last in self._database.execute(_SERIES):
            namespace, name, dimensions, unit = json.loads(identity)
            metric = Metric(namespace, name, tuple((key, value) for key, value in dimensions))
            yield Series(metric, unit, number, last or 0)

    def read(
        self, series: Series, start: int, end: int, longest: int
    ) -> Iterator[tuple[int, Summary]]:
        """Yield periods that begin from `start` up to `end`, with their starts."""
        rows = self._database.execute(_READ, (series.number, start, end, longest))
        return ((at, Summary.unpack(*columns)) for at, *columns in rows)

    def write(self, batch: Iterable[tuple[Series, Periods]]) -> None:
        """Merge the periods into those of the file: all of them, or none."""
        numbers: list[tuple[Series, int]] = []
        with Transaction(self._database):
            for series, periods in batch:
                number = series.number or self._insert(series)
                numbers.append((series, number))
                self._merge(number, periods)
        for series, number in numbers:
            series.number = number

    def age(self, series: Series, now: int) -> None:
        """Join or delete the periods that are too old for their length."""
        with Transaction(self._database):
            for seconds, longer, age in _STAGES:
                limit = (now - age) // longer * longer
                self._merge(series.number, self._joined(series, limit, seconds, longer))
                self._database.execute(_DELETE_OLD, (series.number, limit, seconds))
            self._database.execute(_DELETE_OLD, (series.number, now - OLDEST, _HOUR))

    def remove(self, series: Series) -> None:
        with Transaction(self._database):
            self._database.execute("DELETE FROM periods WHERE series = ?", (series.number,))
            self._database.execute("DELETE FROM series WHERE id = ?", (series.number,))

    def close(self) -> None:
        self._database.close()

    def _insert(self, series: Series) -> int:
        metric = series.metric  # as ASCII: a name may hold what is not a character
        identity = json.dumps([metric.namespace, metric.name, metric.dimensions, series.unit])
        row = self._database.execute("INSERT INTO series (identity) VALUES (?)", (identity,))
        return row.lastrowid or 0

    def _merge(self, number: int, periods: Periods) -> None:
        self._database.executemany(_WRITE, list(self._rows(number, periods)))

    def _rows(self, number: int, periods: Periods) -> Iterator[tuple[object, ...]]:
        for (start, seconds), summary in periods.items():
            place = (number, start, seconds)
            written = self._database.execute(_READ_ONE, place).fetchone()
            whole = summary
            if written is not None:
                whole = Summary.unpack(*written)
                whole.merge(summary)
            extremes = (whole.minimum, whole.maximum)
            yield (*place, whole.count, whole.total, *extremes, whole.pack())

    def _joined(self, series: Series, limit: int, seconds: int, longer: int) -> Periods:
        joined: Periods = {}
        for start, *columns in self._database.execute(_READ_OLD, (series.number, limit, seconds)):
            place = (start - start % longer, longer)
            summary = Summary.unpack(*columns)
            if place in joined:
                joined[place].merge(summary)
            else:
                joined[place] = summary
        return joined
