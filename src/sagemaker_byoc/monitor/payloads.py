"""A captured body as rows: CSV, JSON, JSON Lines, rows as lists or as objects, columns as lists.

The usual body, one CSV row, does not come this way (see captures).
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
from collections.abc import Iterator
from typing import Any, TypeAlias

from sagemaker_byoc.contract.capture import Encoding, Payload

Row: TypeAlias = "list[str] | dict[str, str]"
"""Cells by position, or by name; an empty one is missing."""
_LARGEST_DEPTH = 8


class UnreadableError(Exception):
    """Why a body is no table; short, since it is counted by this text."""


def rows(payload: Payload | None) -> list[Row]:
    """Raises UnreadableError."""
    if payload is None:
        return []
    if payload.encoding is Encoding.BASE64:
        text = _decoded(payload)
        is_json = "json" in payload.content_type or text.lstrip()[:1] in ("{", "[")
    else:
        text, is_json = payload.data, payload.encoding is Encoding.JSON
    return _json_rows(text) if is_json else _csv_rows(text)


def _decoded(payload: Payload) -> str:
    """Flask's replies are text/html unless told otherwise, and so end up as BASE64."""
    kind = payload.content_type or "no content type"
    try:
        return base64.b64decode(payload.data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise UnreadableError(f"BASE64 of {kind} that is no text") from error


def _csv_rows(text: str) -> list[Row]:
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise UnreadableError(f"CSV: {error}") from error


def _json_rows(text: str) -> list[Row]:
    try:
        documents = [json.loads(text)]
    except ValueError:
        try:
            documents = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError) as error:
            raise UnreadableError("a body that is no JSON") from error
    except RecursionError as error:
        raise UnreadableError("JSON too deep") from error
    return [row for document in documents for row in document_rows(document)]


def document_rows(document: Any) -> Iterator[Row]:
    """`{"instances": […]}` and its like are their list; `{"a": […], "b": […]}` is columns."""
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        if len(document) == 1 and lists:
            yield from _each(lists[0])
        elif lists and len(lists) == len(document) and len({*map(len, lists)}) == 1:
            for values in zip(*lists, strict=True):
                yield _named(dict(zip(document, values, strict=True)))
        else:
            yield _named(document)
    elif isinstance(document, list):
        if any(isinstance(value, list | dict) for value in document):
            yield from _each(document)
        else:
            yield [cell(value) for value in document]
    else:
        yield [cell(document)]


def _each(values: list[Any]) -> Iterator[Row]:
    for value in values:
        if isinstance(value, dict):
            yield _named(value)
        else:
            yield [cell(one) for one in value] if isinstance(value, list) else [cell(value)]


def _named(document: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    _flatten("", document, found, _LARGEST_DEPTH)
    return found


def _flatten(name: str, value: Any, found: dict[str, str], depth: int) -> None:
    """`{"a": {"b": 1}, "c": [2, 3]}` has the columns a.b, c_0 and c_1."""
    if depth and isinstance(value, dict) and value:
        for key, inner in value.items():
            _flatten(f"{name}.{key}" if name else str(key), inner, found, depth - 1)
    elif depth and isinstance(value, list) and value:
        for place, inner in enumerate(value):
            _flatten(f"{name}_{place}", inner, found, depth - 1)
    else:
        found[name] = cell(value)


def cell(value: Any) -> str:
    """A JSON value as a CSV file would have it."""
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, list | dict) else repr(value)


def paired(inputs: list[Row], outputs: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Row by row. One list of as many outputs as there are inputs is one for each, and several
    outputs for one input are one row. Raises UnreadableError where the counts don't fit."""
    if not inputs or not outputs:
        for row in inputs:
            yield row, []
        for row in outputs:
            yield [], row
        return
    if len(inputs) > 1 and len(outputs) == 1 and len(outputs[0]) == len(inputs):
        only = outputs[0]
        if isinstance(only, list):
            outputs = [[value] for value in only]
    elif len(inputs) == 1 and len(outputs) > 1 and all(len(row) == 1 for row in outputs):
        outputs = [[value for row in outputs for value in _values(row)]]
    if len(inputs) != len(outputs):
        raise UnreadableError(f"{len(inputs)} rows in, {len(outputs)} rows out")
    yield from zip(inputs, outputs, strict=True)


def _values(row: Row) -> list[str]:
    return row if isinstance(row, list) else [*row.values()]
