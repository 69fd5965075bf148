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
from types import SimpleNamespace
from typing import Any

from sagemaker_byoc.contract.capture import GroundTruth, Payload, Record
from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor.inputs.documents import Row, UnreadableError, cell, document_rows
from sagemaker_byoc.monitor.inputs.payloads import plain, text_rows
from sagemaker_byoc.monitor.inputs.streams import DataError

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
        self.observedContentType = payload.content_type or None
        self.mode = mode

    def as_dict(self) -> dict[str, Any]:
        return {
            "encoding": self.encoding,
            "data": self.data,
            "observedContentType": self.observedContentType,
        }


class InferenceRecord:
    """The argument of a script: the attributes that the guide names, and those that AWS's samples
    read.

    `ground_truth` is only there if there is a label: scripts ask with hasattr. `event_data` is the
    older form, with the names of the file.
    """

    def __init__(self, record: Record, truth: GroundTruth | None = None) -> None:
        self.event_metadata = EventMetadata(record)
        self.endpoint_input = record.input and EventData(record.input, "INPUT")
        self.endpoint_output = record.output and EventData(record.output, "OUTPUT")
        self.event_version = "0"
        self.event_id = record.event_id
        self.inference_id = record.inference_id or None
        self.event_data = SimpleNamespace(
            endpointInput=self.endpoint_input, endpointOutput=self.endpoint_output
        )
        if truth is not None:
            self.ground_truth = EventData(Payload("", truth.data, truth.encoding), "GROUND_TRUTH")


Preprocess = Callable[[Record, "GroundTruth | None"], list[Row]]


def preprocessor(script: Path) -> Preprocess:
    """Return what makes the rows of one record; `[]` leaves it out. Raise RequestError.

    What it returns raises DataError if the script fails, and UnreadableError if the script returns
    something that is not data.
    """
    handler = _function(script, "preprocess_handler")
    takes_logger, takes_keyword = _takes_logger(handler)
    more: tuple[Any, ...] = (_LOGGER,) if takes_logger else ()
    named = {"logger": _LOGGER} if takes_keyword else {}

    def preprocess(record: Record, truth: GroundTruth | None = None) -> list[Row]:
        try:
            made = plain(handler(InferenceRecord(record, truth), *more, **named))
            return [_by_position(row) for row in _rows(made) if row]
        except UnreadableError as error:
            raise UnreadableError(f"preprocess_handler: {error.what}", error.detail) from error
        except (Exception, SystemExit) as error:
            raise DataError(
                f"{script}: preprocess_handler failed on the record {record.event_id}: "
                f"{type(error).__name__}: {error}",
                hint="Correct the script, or let it return [] for records that it can't take",
            ) from error

    return preprocess


def _takes_logger(handler: Callable[..., Any]) -> tuple[bool, bool]:
    """Whether a second argument may be given by position, or only as `logger=`."""
    kinds = [
        each.kind
        for each in inspect.signature(handler).parameters.values()
        if each.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    by_position = sum(kind in positional for kind in kinds) > 1
    return by_position, not by_position and inspect.Parameter.KEYWORD_ONLY in kinds


def _rows(made: Any) -> list[Row]:
    """Return the rows of what a script made; None, NaN and empty values leave the record out."""
    if not isinstance(made, list | dict) and not cell(made):
        return []
    return text_rows(made) if isinstance(made, str) else [*document_rows(made)]


def run_postprocessor(script: Path) -> None:
    handler = _function(script, "postprocess_handler")
    try:
        handler()
    except (Exception, SystemExit) as error:
        raise DataError(
            f"{script}: postprocess_handler failed: {type(error).__name__}: {error}",
            hint="Correct the script; the results are written",
        ) from error


def _by_position(row: Row) -> Row:
    """Return a row without names that are numbers, as in the guide's script ("000000000003")."""
    if isinstance(row, dict) and row and all(name.isdecimal() for name in row):
        return [row[name] for name in sorted(row, key=int)]
    return row


def _function(script: Path, name: str) -> Callable[..., Any]:
    try:
        found = runpy.run_path(str(script)).get(name)
    except (Exception, SystemExit) as error:
        raise RequestError(
            f"{script} can't be loaded: {type(error).__name__}: {error}",
            hint="Give a Python file that can be imported here",
        ) from error
    if not callable(found):
        raise RequestError(
            f"{script} has no {name}()", hint=f"Define {name} as the developer guide shows"
        )
    return found  # type: ignore[no-any-return] # callable() leaves it Any
