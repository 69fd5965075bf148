"""The lines of a capture file, made from answered requests in the writer's thread.

A request and reply that are too large to become a line at once are written in pieces. Standard
library only.
"""

from __future__ import annotations

import base64
import codecs
import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from json.encoder import encode_basestring

from sagemaker_byoc.contract import http
from sagemaker_byoc.contract.capture import (
    CACHED,
    LINE_HEAD,
    ContentTypes,
    Encoding,
    Lines,
    Mode,
    line_tail,
    moment_of,
    payload_head,
    payload_tail,
)
from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.capture.options import CaptureSettings, is_opaque, useless

OVERHEAD = 512
"""Bytes of a record beside its bodies, counted towards the limit of what waits."""
_INFERENCE_ID = http.INFERENCE_ID.value.lower()
_ATTRIBUTES = http.CUSTOM_ATTRIBUTES.value.lower()


@dataclass(slots=True)
class Traffic:
    """`headers` are the platform's, with names in lower case; `time` is that of the answer, in
    seconds since 1970."""

    request: Body
    request_type: str
    response: Body
    response_type: str
    headers: Mapping[str, str]
    time: float = 0.0

    @property
    def size(self) -> int:
        """Bytes that the record takes while it waits."""
        return self.request.size + self.response.size + OVERHEAD

    @property
    def inference_id(self) -> str:
        return self.headers.get(_INFERENCE_ID, "")

    @property
    def custom_attributes(self) -> str:
        return self.headers.get(_ATTRIBUTES, "")


def named(inference_id: str) -> dict[str, str]:
    """Return headers with only an inference id."""
    return {_INFERENCE_ID: inference_id} if inference_id else {}


PIECE = 48 * 1024
"""Bytes; a multiple of three, so that base64 of the pieces is base64 of all."""


@dataclass(slots=True)
class Side:
    """One direction of an exchange: the request or the reply."""

    mode: Mode
    content_type: str
    body: Body


@dataclass(slots=True)
class Exchange:
    """One request and reply that become a line in pieces; `tail` ends the line."""

    sides: list[Side]
    tail: str
    types: ContentTypes

    def pieces(self, text: frozenset[Mode]) -> Iterator[bytes]:
        """Yield the line. Bodies of the modes in `text` are written as text if their type allows
        it; raise NotTextError in the middle of the line if one is not text."""
        head = LINE_HEAD
        for side in self.sides:
            encoding = self.types.encoding_of(side.content_type)
            if side.mode not in text:
                encoding = Encoding.BASE64
            head += payload_head(side.mode, side.content_type) + '"'
            yield head.encode()
            yield from _text(side) if encoding is not Encoding.BASE64 else _base64(side.body)
            head = f'"{payload_tail(encoding)},'
        yield f"{head.removesuffix(',')}{self.tail}".encode()


class NotTextError(Exception):
    """A body that claims to be text is not UTF-8; `mode` says which one."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        super().__init__(mode)


def _text(side: Side) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, side.body.size, PIECE):
            is_last = start + PIECE >= side.body.size
            text = decoder.decode(side.body.piece(start, PIECE), final=is_last)
            yield encode_basestring(text)[1:-1].encode()
    except UnicodeDecodeError as error:
        raise NotTextError(side.mode) from error


def _base64(body: Body) -> Iterator[bytes]:
    for start in range(0, body.size, PIECE):
        yield base64.b64encode(body.piece(start, PIECE))


PORTION = 8
"""Records per portion."""
SMALL = 16 * 1024
"""Bytes per portion; a larger record is written piece by piece."""
HOUR = 3600
KINDS = 16
"""Content types that are reported in the log."""
_NODE = 2**48 - 1
"""The last part of a UUID."""


@dataclass(slots=True)
class Batch:
    """Lines of one hour, or one record that becomes a line while it is written."""

    time: datetime
    count: int = 0
    size: int = 0
    """Bytes that the records took while they waited."""
    lines: bytes = b""
    exchange: Exchange | None = None


class Maker:
    """Make lines from records; used by one thread."""

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
        """Yield all records as batches, in the order of arrival."""
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
        """Log once for each type whose captures a monitor cannot read."""
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
    """UUIDs that count up from a random one, which needs no system call and little time."""

    def __init__(self) -> None:
        start = str(uuid.uuid4())
        self._base = start[:-12]
        self._numbers = itertools.count(int(start[-12:], 16))

    def next(self) -> str:
        return f"{self._base}{next(self._numbers) & _NODE:012x}"
