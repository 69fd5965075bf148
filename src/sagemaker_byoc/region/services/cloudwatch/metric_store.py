"""The values of all metrics, summarized per period, in STATE/metrics/metrics.sqlite.

A value is added to the summary of its period in memory, and a thread writes the summaries once a
second: a killed region loses at most the last second or two. Reads see what is not written yet.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.region.services.cloudwatch.metric import NO_UNIT, Metric
from sagemaker_byoc.region.services.cloudwatch.period_file import (
    OLDEST,
    PeriodFile,
    Periods,
    Series,
)
from sagemaker_byoc.region.services.cloudwatch.summaries import LARGEST, Summary

LOG = logging.getLogger(__name__)

SERIES = 100_000
"""Metrics that are kept, each unit counted; values of further ones are dropped."""
WAITING = 100_000
"""Summaries that wait for a disk that is full; the values of further ones are dropped."""
FLUSH_SECONDS = 1.0
RETENTION_SECONDS = 3600.0
"""Time between two runs of the retention."""
_END_OF_TIME = 1e11
"""In seconds since 1970, in the year 5138."""


@dataclass(frozen=True, slots=True)
class Point:
    """The values of one unit in one period that a reader asked for."""

    time: int
    unit: str
    summary: Summary


class MetricStore:
    """Metrics of the region. `put` and `put_summary` are for any thread, and never raise."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._file = PeriodFile(folder / "metrics.sqlite")
        self._disk = threading.Lock()
        """Guards the file. Taken before `_lock`, never after it."""
        self._lock = threading.Lock()
        """Guards what is in memory; held for microseconds."""
        self._series: dict[tuple[Metric, str], Series] = {}
        self._units: dict[Metric, list[Series]] = {}
        self._pending: dict[tuple[Metric, str], Periods] = {}
        self._waiting = 0
        self._dropped = 0
        self._reported: set[str] = set()
        self._is_disk_full = False
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        for series in self._file.series():
            self._add_series(series)

    @property
    def dropped(self) -> int:
        """The summaries that were lost since the start: too many metrics, or a full disk."""
        return self._dropped

    def put(
        self,
        metric: Metric,
        value: float,
        time: float | None = None,
        *,
        unit: str = NO_UNIT,
        resolution: int = 60,
    ) -> None:
        """Add a value to its period. NaN and infinite values are left out, as AWS refuses them.

        `time` is in seconds since 1970, now by default. `resolution` is 60, or 1 for a metric
        whose periods may be shorter than a minute.
        """
        if -LARGEST <= value <= LARGEST:  # NaN is not
            summary = Summary(1.0, value, value, value, {value: 1.0})
            self.put_summary(metric, summary, time, unit=unit, resolution=resolution)

    def put_summary(
        self,
        metric: Metric,
        summary: Summary,
        time: float | None = None,
        *,
        unit: str = NO_UNIT,
        resolution: int = 60,
    ) -> bool:
        """Add a summary to its period; return False if it is dropped. The store keeps it."""
        moment = self._clock() if time is None else time
        if not 0 <= moment < _END_OF_TIME:
            return False
        start = int(moment) - int(moment) % resolution
        place, key = (start, resolution), (metric, unit)
        with self._lock:
            pending = self._pending.get(key)
            if pending is not None and place in pending:
                pending[place].merge(summary)
                return True
            series = self._series.get(key)
            why = self._full(series)
            if why:
                return self._drop(why)
            if series is None:
                series = self._add_series(Series(metric, unit))
            self._pending.setdefault(key, {})[place] = summary
            self._waiting += 1
            series.last = max(series.last, start)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="byoc-metrics", daemon=True)
                self._thread.start()
        return True

    def read(
        self, metric: Metric, start: int, end: int, period: int, unit: str | None = None
    ) -> list[Point]:
        """Return the points from `start` up to `end`, in rising order; the first begins at `start`.

        Values that were stored in longer periods than `period` are left out.
        """
        found: dict[tuple[int, str], Summary] = {}
        with self._disk:
            with self._lock:
                known = self._units.get(metric, [])
                chosen = [each for each in known if unit in {None, each.unit}]
                parts = [
                    (each.unit, at, summary.copy())
                    for each in chosen
                    for (at, seconds), summary in self._pending.get((metric, each.unit), {}).items()
                    if start <= at < end and seconds <= period
                ]
            parts += [
                (each.unit, at, summary)
                for each in chosen
                for at, summary in self._file.read(each, start, end, period)
            ]
        for name, at, summary in parts:
            place = (at - (at - start) % period, name)
            if place in found:
                found[place].merge(summary)
            else:
                found[place] = summary
        return [Point(at, name, found[at, name]) for at, name in sorted(found)]

    def metrics(self, since: int) -> list[Metric]:
        """Return the metrics with values at or after `since`, in no order."""
        with self._lock:
            return [
                metric
                for metric, units in self._units.items()
                if any(each.last >= since for each in units)
            ]

    def flush(self) -> bool:
        """Write what is in memory; return False, keeping it, if the disk refuses it."""
        with self._disk:
            with self._lock:
                batch, self._pending, self._waiting = self._pending, {}, 0
                parts = [(self._series[key], periods) for key, periods in batch.items()]
            if not batch:
                return True
            try:
                self._file.write(parts)
            except (sqlite3.Error, ValueError, OverflowError) as error:
                self._put_back(batch, error)
                return False
        self._is_disk_full = False
        return True

    def apply_retention(self) -> None:
        """Join or delete the periods that are older than AWS keeps them, metric by metric."""
        now = int(self._clock())
        with self._lock:
            everything = list(self._series.values())
        for series in everything:
            with self._disk:
                if series.number:
                    self._file.age(series, now)
                if series.last < now - OLDEST:
                    self._remove_series(series)

    def close(self) -> None:
        """Write what is in memory and end the thread. Later values are dropped. Idempotent."""
        with self._lock:
            was_closed = self._closing.is_set()
            self._closing.set()
            thread = self._thread
        if was_closed:
            return
        if thread is not None:
            thread.join()
        self.flush()
        with self._disk:
            self._file.close()

    def _run(self) -> None:
        """Write once a second until the store is closed; age what the file had at the start."""
        aged = -RETENTION_SECONDS
        while not self._closing.wait(FLUSH_SECONDS):
            try:
                self.flush()
                if time.monotonic() - aged >= RETENTION_SECONDS:
                    aged = time.monotonic()
                    self.apply_retention()
            except Exception:
                LOG.exception("the metrics could not be written")

    def _add_series(self, series: Series) -> Series:
        self._series[series.metric, series.unit] = series
        self._units.setdefault(series.metric, []).append(series)
        return series

    def _remove_series(self, series: Series) -> None:
        """Forget a metric that has no values any more."""
        key = (series.metric, series.unit)
        with self._lock:
            if key in self._pending:
                return
            del self._series[key]
            units = self._units[series.metric]
            units.remove(series)
            if not units:
                del self._units[series.metric]
        self._file.remove(series)

    def _full(self, series: Series | None) -> str:
        """Return why no new period can be kept; "" if it can."""
        if self._closing.is_set():
            return "the region is ending"
        if series is None and len(self._series) >= SERIES:
            return f"there are {SERIES} metrics already"
        return f"{WAITING} periods wait for the disk" if self._waiting >= WAITING else ""

    def _drop(self, why: str) -> bool:
        """Count a summary that is lost, and report the first one of each kind."""
        self._dropped += 1
        if why not in self._reported:
            self._reported.add(why)
            LOG.warning("values of metrics are dropped: %s", why)
        return False

    def _put_back(self, batch: dict[tuple[Metric, str], Periods], error: Exception) -> None:
        """Put a batch that could not be written back into memory."""
        if not self._is_disk_full:
            self._is_disk_full = True
            LOG.warning("metrics wait in memory, since they can't be written: %s", error)
        with self._lock:
            for key, periods in batch.items():
                kept = self._pending.setdefault(key, {})
                for place, summary in periods.items():
                    if place in kept:
                        summary.merge(kept[place])
                    else:
                        self._waiting += 1
                    kept[place] = summary
