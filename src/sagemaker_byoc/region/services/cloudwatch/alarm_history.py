"""The history of all alarms, which outlives them, in STATE/metrics/alarms.sqlite."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sagemaker_byoc.region.core import paging
from sagemaker_byoc.region.services.cloudwatch.database import Transaction, connect

LOG = logging.getLogger(__name__)

ITEMS = 50_000
"""Items that are kept of all alarms together."""
_SECONDS = 30 * 86_400
"""Age at which an item is deleted [CloudWatch user guide]."""
_SUMMARY_LENGTH, _DATA_LENGTH = 255, 4095
"""Characters [model: AlarmHistoryItem]."""

CONFIGURATION, STATE, ACTION = "ConfigurationUpdate", "StateUpdate", "Action"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
  id INTEGER PRIMARY KEY AUTOINCREMENT, alarm TEXT, time REAL, type TEXT, summary TEXT, data TEXT
);
CREATE INDEX IF NOT EXISTS items_by_time ON items (time, id);
CREATE INDEX IF NOT EXISTS items_by_alarm ON items (alarm, time, id);
"""
_READ = """
SELECT id, alarm, time, type, summary, data FROM items
WHERE (:alarm IS NULL OR alarm = :alarm) AND (:type IS NULL OR type = :type)
AND time >= :start AND time <= :end
"""
_DESCENDING = " AND (time, id) < (:time, :id) ORDER BY time DESC, id DESC LIMIT :most"
_ASCENDING = " AND (time, id) > (:time, :id) ORDER BY time, id LIMIT :most"
_END = 1e15
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryQuery:
    alarm: str | None
    kind: str | None
    start: float
    end: float
    most: int
    token: str | None
    descending: bool


class AlarmHistory:
    """Thread-safe. Alarm names are kept as JSON, since they may hold any text."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._database = connect(folder / "alarms.sqlite", _SCHEMA)
        self._is_closed = False
        self._has_failed = False

    def add(
        self, alarm: str, kind: str, summary: str, data: Mapping[str, Any], *, now: float
    ) -> None:
        """Write an item; if the disk refuses it, it is lost, and the log says so once."""
        text = json.dumps(data)
        if len(text) > _DATA_LENGTH:
            text = json.dumps({"version": "1.0", "isTruncated": True})
        words = summary[:_SUMMARY_LENGTH].encode(errors="replace").decode()
        item = (json.dumps(alarm), now, kind, words, text)
        with self._lock:
            if self._is_closed:
                return
            try:
                self._insert(item, now)
                self._has_failed = False
            except sqlite3.Error as error:
                if not self._has_failed:
                    LOG.warning("the history of alarms can't be written: %s", error)
                self._has_failed = True

    def read(self, query: HistoryQuery) -> tuple[list[dict[str, Any]], str | None]:
        """Return one page of AlarmHistoryItems and the token of the next.

        Raise TokenError for a token that is not ours.
        """
        time, number = _parse_token(query.token) or ((_END, 0) if query.descending else (-_END, 0))
        known = {
            "alarm": None if query.alarm is None else json.dumps(query.alarm),
            "type": query.kind,
            "start": query.start,
            "end": query.end,
            "time": time,
            "id": number,
            "most": query.most + 1,
        }
        order = _DESCENDING if query.descending else _ASCENDING
        with self._lock:
            rows = self._database.execute(_READ + order, known).fetchall()
        token = None
        if len(rows) > query.most:
            rows.pop()
            token = _token(rows[-1][2], rows[-1][0])
        return [_document(*row[1:]) for row in rows], token

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._database.close()

    def _insert(self, item: tuple[object, ...], now: float) -> None:
        with Transaction(self._database):
            added = self._database.execute(
                "INSERT INTO items (alarm, time, type, summary, data) VALUES (?, ?, ?, ?, ?)", item
            )
            oldest = (added.lastrowid or 0) - ITEMS
            self._database.execute(
                "DELETE FROM items WHERE id <= ? OR time < ?", (oldest, now - _SECONDS)
            )


def _document(alarm: str, time: float, kind: str, summary: str, data: str) -> dict[str, Any]:
    return {
        "AlarmName": json.loads(alarm),
        "AlarmType": "MetricAlarm",
        "Timestamp": datetime.fromtimestamp(time, UTC),
        "HistoryItemType": kind,
        "HistorySummary": summary,
        "HistoryData": data,
    }


def _token(time: float, number: int) -> str:
    return paging.encode([time, number])


def _parse_token(token: str | None) -> tuple[float, int] | None:
    if token is None:
        return None
    match paging.decode(token):
        case [float(time), int(number)] if abs(number) <= _LARGEST_ID:
            return time, number
    raise paging.TokenError(token)
