"""Captured traffic as SageMaker's data capture writes it: one JSON object per line, one folder per
hour.

    DESTINATION/ENDPOINT/VARIANT/2022/02/14/17/25-06-123-UUID.jsonl

`Selection` is a DataCaptureConfig: which requests are captured, which directions of them, and as
text or as base64.

Sources: developer guide, model-monitor-data-capture-endpoint (record, layout, encodings),
model-monitor-pre-and-post-processing (keys), model-monitor-model-quality-merge (ground truth);
service model, DataCaptureConfig and its members. Standard library only, both directions.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from json.encoder import encode_basestring
from typing import Any

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.facts import API_MODEL, GUIDE, Fact

_PAGE = f"{GUIDE}: model-monitor-data-capture-endpoint"
_CHECKED = "2026-11-23"

EVENT_VERSION = Fact("0", "eventVersion", _PAGE, _CHECKED)
SUFFIX = Fact(
    ".jsonl", "file name", _PAGE, _CHECKED, "a file that is still being written ends otherwise"
)
FILE_NAME = Fact(
    "%M-%S-MILLISECONDS-UUID.jsonl",
    "file name",
    "keys of captures in public repositories, such as 32-18-648-cee08c3a-02ce-….jsonl",
    _CHECKED,
    "the time at which the file was begun; the guide only shows <file>.jsonl",
)
CSV_TYPES = Fact(
    ("text/csv",), "media types", "SageMaker SDK: DataCaptureConfig.csv_content_types", _CHECKED
)
JSON_TYPES = Fact(
    ("application/json",),
    "media types",
    "SageMaker SDK: DataCaptureConfig.json_content_types",
    _CHECKED,
    "without CaptureContentTypeHeader, all data is BASE64",
)


class Encoding(StrEnum):
    """How `data` holds a body."""

    CSV = "CSV"
    JSON = "JSON"
    BASE64 = "BASE64"


class Mode(StrEnum):
    INPUT = "INPUT"
    OUTPUT = "OUTPUT"


_KEYS = {Mode.INPUT: "endpointInput", Mode.OUTPUT: "endpointOutput"}


class CaptureError(ContractError):
    """A line that is not a captured record."""


@dataclass(frozen=True, slots=True)
class ContentTypes:
    """Which media types are kept as text; all others, and bodies that are not UTF-8, as BASE64."""

    csv: tuple[str, ...] = CSV_TYPES.value
    json: tuple[str, ...] = JSON_TYPES.value

    def encoding_of(self, content_type: str | None) -> Encoding:
        """Return the encoding by type and subtype; parameters, such as a charset, are ignored."""
        essence = (content_type or "").partition(";")[0].strip().lower()
        if essence in self.csv:
            return Encoding.CSV
        return Encoding.JSON if essence in self.json else Encoding.BASE64


@dataclass(frozen=True, slots=True)
class Payload:
    """One direction of an invocation: `data` as it stands in the file."""

    content_type: str
    data: str
    encoding: Encoding

    @classmethod
    def of(cls, body: bytes, content_type: str | None, types: ContentTypes) -> Payload:
        """Return the payload. A body of type CSV or JSON that is not UTF-8 (compressed, another
        charset) is kept as BASE64: as text it could not be restored."""
        encoding = types.encoding_of(content_type)
        if encoding is not Encoding.BASE64:
            try:
                return cls(content_type or "", body.decode(), encoding)
            except UnicodeDecodeError:
                pass
        return cls(content_type or "", base64.b64encode(body).decode(), Encoding.BASE64)

    @property
    def body(self) -> bytes:
        """Return the body as it was on the wire. Raise CaptureError."""
        if self.encoding is not Encoding.BASE64:
            return self.data.encode()
        try:
            return base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise _wrong("data", f"is not base64 ({error})") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One invocation; a direction that was not captured is None."""

    input: Payload | None
    output: Payload | None
    event_id: str
    time: datetime
    inference_id: str = ""
    custom_attributes: tuple[str, ...] = ()

    @property
    def join_key(self) -> str:
        """Return the key by which ground truth is matched."""
        return self.inference_id or self.event_id

    def to_line(self) -> bytes:
        """Return the record as a line, with its line feed."""
        payloads = {Mode.INPUT: self.input, Mode.OUTPUT: self.output}
        parts = [
            payload_head(mode, payload.content_type)
            + encode_basestring(payload.data)
            + payload_tail(payload.encoding)
            for mode, payload in payloads.items()
            if payload is not None
        ]
        event_id = encode_basestring(self.event_id)[1:-1]
        moment = moment_of(self.time)
        tail = line_tail(event_id, moment, self.inference_id, self.custom_attributes)
        return f"{LINE_HEAD}{','.join(parts)}{tail}".encode()

    @classmethod
    def from_line(cls, line: bytes | str) -> Record:
        """Raise CaptureError."""
        document = _parsed(line)
        data, metadata = _object(document, "captureData"), _object(document, "eventMetadata")
        attributes = metadata.get("customAttributes") or ()
        if isinstance(attributes, str):
            attributes = (attributes,)
        return cls(
            input=_payload(data, Mode.INPUT),
            output=_payload(data, Mode.OUTPUT),
            event_id=str(metadata.get("eventId", "")),
            time=_time(metadata.get("inferenceTime")),
            inference_id=str(metadata.get("inferenceId") or ""),
            custom_attributes=tuple(map(str, attributes)),
        )


# The text of a line in parts, for writers that have no Record.

LINE_HEAD = '{"captureData":{'


def payload_head(mode: Mode, content_type: str) -> str:
    """Return the part up to the quoted data. A body without a content type has null, as in the
    schema of captured data in AWS's example sm-model_monitor_byoc_llm_monitor."""
    key, kind = _KEYS[mode], encode_basestring(content_type) if content_type else "null"
    return f'"{key}":{{"observedContentType":{kind},"mode":"{mode.value}","data":'


def payload_tail(encoding: Encoding) -> str:
    return f',"encoding":"{encoding.value}"}}'


def moment_of(time: datetime) -> str:
    """Return `inferenceTime`; `time` is in UTC."""
    return f"{time.isoformat()[:19]}Z"


def line_tail(
    event_id: str, moment: str, inference_id: str = "", custom_attributes: Sequence[str] = ()
) -> str:
    """Return the part from the end of captureData to the line feed. `event_id` is not escaped."""
    more = f',"inferenceId":{encode_basestring(inference_id)}' if inference_id else ""
    if custom_attributes:
        more += f',"customAttributes":[{",".join(map(encode_basestring, custom_attributes))}]'
    return (
        f'}},"eventMetadata":{{"eventId":"{event_id}","inferenceTime":"{moment}"{more}}},'
        f'"eventVersion":"{EVENT_VERSION.value}"}}\n'
    )


# ── reading ──


def _parsed(line: bytes | str) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise _wrong("line", f"is not JSON ({error})") from error


def _object(document: object, key: str) -> Mapping[str, Any]:
    value = document.get(key) if isinstance(document, dict) else None
    if not isinstance(value, dict):
        raise _wrong(key, "is missing, or is not an object")
    return value


def _payload(data: Mapping[str, Any], mode: Mode) -> Payload | None:
    key = _KEYS[mode]
    if data.get(key) is None:
        return None
    found = _object(data, key)
    text, encoding = found.get("data"), str(found.get("encoding")).upper()
    if text is None and "data" in found:
        return None
    if not isinstance(text, str):
        raise _wrong(f"{key}.data", "is missing, or is not a string")
    if encoding not in tuple(Encoding):
        raise _wrong(f"{key}.encoding", f"is {encoding!r}, not one of {', '.join(Encoding)}")
    return Payload(str(found.get("observedContentType") or ""), text, Encoding(encoding))


def _time(text: object) -> datetime:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise _wrong("eventMetadata.inferenceTime", f"is {text!r}, not a time") from error
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _wrong(where: str, what: str) -> CaptureError:
    return CaptureError(
        where=where, what=what, hint="Give lines as data capture writes them, one record each"
    )


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """A label that arrives later; `key` is the record's join key."""

    key: str
    data: str
    encoding: Encoding = Encoding.CSV

    def to_line(self) -> bytes:
        document = {
            "groundTruthData": {"data": self.data, "encoding": self.encoding.value},
            "eventMetadata": {"eventId": self.key},
            "eventVersion": EVENT_VERSION.value,
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes | str) -> GroundTruth:
        """Raise CaptureError."""
        return cls.from_document(_parsed(line))

    @classmethod
    def from_document(cls, document: object) -> GroundTruth:
        """Raise CaptureError. A label that is a JSON value, and not text, is read as JSON."""
        found, metadata = _object(document, "groundTruthData"), _object(document, "eventMetadata")
        data, encoding = found.get("data"), str(found.get("encoding") or Encoding.CSV).upper()
        if data is None or data == "":
            raise _wrong("groundTruthData.data", "is missing")
        if not isinstance(data, str):
            data, encoding = json.dumps(data), Encoding.JSON.value
        if encoding not in tuple(Encoding):
            raise _wrong("groundTruthData.encoding", f"is not one of {', '.join(Encoding)}")
        keys = (metadata.get("eventId"), metadata.get("inferenceId"))
        key = next((each for each in keys if each not in (None, "")), None)
        if key is None:
            raise _wrong("eventMetadata.eventId", "is missing")
        return cls(str(key), data, Encoding(encoding))


# ── layout ──

_HOUR = re.compile(r"(?:^|/)(\d{4})/(\d\d)/(\d\d)/(\d\d)(?=/|$)")


def hour_folder(time: datetime) -> str:
    """Return the folder below DESTINATION/ENDPOINT/VARIANT; `time` is in UTC."""
    return f"{time:%Y/%m/%d/%H}"


def file_name(time: datetime, unique: str) -> str:
    return f"{time:%M-%S}-{time.microsecond // 1000:03d}-{unique}{SUFFIX.value}"


def hour_of(path: str) -> datetime | None:
    """Return the hour of the last …/yyyy/mm/dd/hh/… in a path or key; None if there is none."""
    found = None
    for match in _HOUR.finditer(path):
        try:
            found = datetime.strptime(match[0].strip("/"), "%Y/%m/%d/%H").replace(tzinfo=UTC)
        except ValueError:
            continue
    return found


# ── DataCaptureConfig ──

_MODEL = f"{API_MODEL}: sagemaker"
SAMPLING_MAX = Fact(100, "percent", f"{_MODEL}.SamplingPercentage.max", "2026-11-23")
TYPES_MAX = Fact(10, "media types", f"{_MODEL}.CsvContentTypes.max", "2026-11-23", "of each kind")
CACHED = 256
"""Content types whose part of a line is kept: clients choose them."""


def is_enabled(config: Mapping[str, Any] | None) -> bool:
    """Return whether capture is on; without EnableCapture it is."""
    return bool(config) and bool((config or {}).get("EnableCapture", True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """DataCaptureConfig without its destination."""

    percentage: float = 100.0
    modes: frozenset[Mode] = frozenset(Mode)
    types: ContentTypes = field(default_factory=ContentTypes)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Selection:
        """Read a DataCaptureConfig that the service model has found valid."""
        modes: set[Mode] = set()
        for option in config["CaptureOptions"]:
            mode = option["CaptureMode"]
            modes |= {*Mode} if mode == "InputAndOutput" else {Mode(mode.upper())}
        headers = config.get("CaptureContentTypeHeader") or {}
        csv, json = (
            tuple(each.lower() for each in headers.get(key, ()))
            for key in ("CsvContentTypes", "JsonContentTypes")
        )
        return cls(
            percentage=config["InitialSamplingPercentage"],
            modes=frozenset(modes),
            types=ContentTypes(csv, json),
        )

    def takes(self, draw: Callable[[], float] = random.random) -> bool:
        """Return whether a request is captured; `draw` is uniform in [0, 1)."""
        return 100 * draw() < self.percentage


class Lines:
    """Writes the lines of one selection without making Records: a few microseconds each."""

    def __init__(self, selection: Selection) -> None:
        self._modes = [mode for mode in Mode if mode in selection.modes]
        self._types = selection.types
        self._known: dict[tuple[Mode, str], tuple[str, str, bool]] = {}

    def line(  # noqa: PLR0913 - what a record is made of
        self,
        request: bytes,
        request_type: str,
        response: bytes,
        response_type: str,
        *,
        event_id: str,
        moment: str,
        inference_id: str = "",
        custom_attributes: str = "",
    ) -> bytes:
        """Return the line, with its line feed; `moment` is what `moment_of` returns."""
        parts = [
            self._payload(mode, request, request_type)
            if mode is Mode.INPUT
            else self._payload(mode, response, response_type)
            for mode in self._modes
        ]
        attributes = (custom_attributes,) if custom_attributes else ()
        tail = line_tail(event_id, moment, inference_id, attributes)
        return f"{LINE_HEAD}{','.join(parts)}{tail}".encode()

    def _payload(self, mode: Mode, body: bytes, content_type: str) -> str:
        known = self._known.get((mode, content_type))
        head, tail, is_text = known or self._learn(mode, content_type)
        if is_text:
            try:
                return f"{head}{encode_basestring(body.decode())}{tail}"
            except UnicodeDecodeError:  # see Payload.of
                tail = payload_tail(Encoding.BASE64)
        return f'{head}"{base64.b64encode(body).decode()}"{tail}'

    def _learn(self, mode: Mode, content_type: str) -> tuple[str, str, bool]:
        encoding = self._types.encoding_of(content_type)
        is_text = encoding is not Encoding.BASE64
        found = (payload_head(mode, content_type), payload_tail(encoding), is_text)
        if len(self._known) < CACHED:
            self._known[mode, content_type] = found
        return found
