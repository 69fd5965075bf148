"""From answered requests to lines, in the writer's thread. Standard library only.

Lines are made many at a time, while the code for them is in the CPU's caches, and in portions of
some 50 µs, since nothing else of this process runs meanwhile.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sagemaker_byoc.contract.hosting.capture import Mode, line_tail, moment_of
from sagemaker_byoc.contract.hosting.capture_config import CACHED, Lines
from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.capture.exchange import Exchange, Side
from sagemaker_byoc.serving.capture.settings import CaptureSettings, is_opaque, useless
from sagemaker_byoc.serving.capture.traffic import Traffic

PORTION = 8
"""Records of a portion."""
SMALL = 16 * 1024
"""Bytes of a portion; a record that is larger is written piece by piece."""
HOUR = 3600
KINDS = 16
"""Content types that the log is told about."""
_NODE = 2**48 - 1
"""The last part of a UUID."""


@dataclass(slots=True)
class Batch:
    """Lines of one hour, or one record that becomes a line while it is written."""

    time: datetime
    count: int = 0
    size: int = 0
    """Bytes of what waited."""
    lines: bytes = b""
    exchange: Exchange | None = None


class Maker:
    """For one thread."""

    def __init__(self, settings: CaptureSettings) -> None:
        selection = settings.selection
        self._settings = settings
        self._types = selection.types
        self._modes = [mode for mode in Mode if mode in selection.modes]
        self._lines = Lines(selection)
        self._ids = _EventIds()
        self._second = -1
        self._pairs: set[tuple[str, str]] = set()
        self._known: set[tuple[str, str]] = set()

    def batches(self, records: Iterable[Traffic]) -> Iterator[Batch]:
        """All of them, in their order."""
        portion: list[Traffic] = []
        size = 0
        for record in records:
            if portion and (
                len(portion) == PORTION
                or size + record.size > SMALL
                or record.time // HOUR != portion[0].time // HOUR
            ):
                yield self._portion(portion)
                portion, size = [], 0
            if record.size > SMALL:
                yield self._large(record)
            else:
                portion.append(record)
                size += record.size
        if portion:
            yield self._portion(portion)

    def _portion(self, records: list[Traffic]) -> Batch:
        lines = b"".join(map(self._line, records))
        size = sum(record.size for record in records)
        return Batch(_moment(records[0]), len(records), size, lines)

    def _line(self, record: Traffic) -> bytes:
        self._begin(record)
        return self._lines.line(
            _data(record.request),
            record.request_type,
            _data(record.response),
            record.response_type,
            event_id=self._ids.next(),
            moment=self._moment,
            inference_id=record.inference_id,
            custom_attributes=record.custom_attributes,
        )

    def _large(self, record: Traffic) -> Batch:
        self._begin(record)
        both = {
            Mode.INPUT: Side(Mode.INPUT, record.request_type, record.request),
            Mode.OUTPUT: Side(Mode.OUTPUT, record.response_type, record.response),
        }
        attributes = (record.custom_attributes,) if record.custom_attributes else ()
        tail = line_tail(self._ids.next(), self._moment, record.inference_id, attributes)
        exchange = Exchange([both[mode] for mode in self._modes], tail, self._types)
        return Batch(_moment(record), 1, record.size, exchange=exchange)

    def _begin(self, record: Traffic) -> None:
        second = int(record.time)
        if second != self._second:
            self._second = second
            self._moment = moment_of(_moment(record))
        pair = (record.request_type, record.response_type)
        if pair not in self._pairs:
            if len(self._pairs) < CACHED:
                self._pairs.add(pair)
            self._look_at(pair)

    def _look_at(self, pair: tuple[str, str]) -> None:
        """Tell once about each type that makes captures useless to a monitor."""
        for mode in self._modes:
            key = ("requests", pair[0]) if mode is Mode.INPUT else ("replies", pair[1])
            if key not in self._known and len(self._known) < KINDS:
                self._known.add(key)
                if is_opaque(self._settings, key[1]):
                    log.say(useless(*key))


def _moment(record: Traffic) -> datetime:
    return datetime.fromtimestamp(record.time, UTC)


def _data(body: Body) -> bytes:
    return body.data if body.descriptor is None else body.piece(0, body.size)


class _EventIds:
    """UUIDs that count up from a random one: no system call, and hardly any time, for each."""

    def __init__(self) -> None:
        start = str(uuid.uuid4())
        self._base = start[:-12]
        self._numbers = itertools.count(int(start[-12:], 16))

    def next(self) -> str:
        return f"{self._base}{next(self._numbers) & _NODE:012x}"
