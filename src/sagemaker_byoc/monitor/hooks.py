"""The two scripts that a user may bring, as AWS's analyzer calls them.

`preprocess_handler(inference_record[, logger])` for each record, `postprocess_handler()` at the
end. Source: developer guide, model-monitor-pre-and-post-processing.
"""

from __future__ import annotations

import inspect
import logging
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.capture import Payload, Record
from sagemaker_byoc.monitor.errors import DataError, RequestError
from sagemaker_byoc.monitor.payloads import Row, document_rows

_LOGGER = logging.getLogger(__name__)


class EventMetadata:
    def __init__(self, record: Record) -> None:
        self.event_id = record.event_id
        self.inference_id = record.inference_id or None
        self.event_time = record.time.strftime("%Y-%m-%dT%H:%M:%SZ")
        self.custom_attribute = list(record.custom_attributes) or None


class EventData:
    """`data` is text as it stands in the file; scripts change it."""

    def __init__(self, payload: Payload, mode: str) -> None:
        self.encoding: str | None = payload.encoding.value
        self.data: Any = payload.data
        self.observedContentType = payload.content_type
        self.mode = mode

    def as_dict(self) -> dict[str, Any]:
        return {
            "encoding": self.encoding,
            "data": self.data,
            "observedContentType": self.observedContentType,
        }


class InferenceRecord:
    """What a script is given: the attributes that the guide names."""

    def __init__(self, record: Record) -> None:
        self.event_metadata = EventMetadata(record)
        self.endpoint_input = record.input and EventData(record.input, "INPUT")
        self.endpoint_output = record.output and EventData(record.output, "OUTPUT")
        self.event_version = "0"


Preprocess = Callable[[Record], list[Row]]


def preprocessor(script: Path) -> Preprocess:
    """The rows that a script makes of one record; `[]` leaves it out. Raises RequestError."""
    handler = _function(script, "preprocess_handler")
    wants_logger = len(inspect.signature(handler).parameters) > 1

    def preprocess(record: Record) -> list[Row]:
        arguments = (
            (InferenceRecord(record), _LOGGER) if wants_logger else (InferenceRecord(record),)
        )
        try:
            made = handler(*arguments)
        except Exception as error:
            raise DataError(
                f"{script}: preprocess_handler failed on the record {record.event_id}: "
                f"{type(error).__name__}: {error}",
                cure="Mend the script, or let it return [] for records that it can't take",
            ) from error
        return [_by_position(row) for row in document_rows(made)] if made else []

    return preprocess


def run_postprocessor(script: Path) -> None:
    handler = _function(script, "postprocess_handler")
    try:
        handler()
    except Exception as error:
        raise DataError(
            f"{script}: postprocess_handler failed: {type(error).__name__}: {error}",
            cure="Mend the script; the results are written",
        ) from error


def _by_position(row: Row) -> Row:
    """The guide's own script numbers its columns ("00000000000000000003"): that is no name."""
    if isinstance(row, dict) and row and all(name.isdigit() for name in row):
        return [row[name] for name in sorted(row)]
    return row


def _function(script: Path, name: str) -> Callable[..., Any]:
    try:
        found = runpy.run_path(str(script)).get(name)
    except Exception as error:
        raise RequestError(
            f"{script} can't be loaded: {type(error).__name__}: {error}",
            cure="Give a Python file that can be imported here",
        ) from error
    if not callable(found):
        raise RequestError(
            f"{script} has no {name}()", cure=f"Define {name} as the developer guide shows"
        )
    return found  # type: ignore[no-any-return] # callable() leaves it Any
