"""A captured body as rows: CSV, JSON, JSON Lines, base64 of any of these, arrays of numpy.

The usual body, one CSV row, does not come this way (see captures).
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from sagemaker_byoc.contract.hosting.capture import Encoding, Payload
from sagemaker_byoc.monitor.inputs.documents import (
    Row,
    UnreadableError,
    clean,
    document_rows,
    folded,
    may_fold,
)
from sagemaker_byoc.monitor.inputs.plain import plain

_LARGEST_BODY = 64 << 20
"""Bytes of a compressed body once it is unpacked: twice what an endpoint takes and returns."""
_GZIP, _NUMPY = b"\x1f\x8b", b"\x93NUMPY"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def rows(payload: Payload | None) -> list[Row]:
    """Raise UnreadableError."""
    if payload is None:
        return []
    if payload.encoding is Encoding.CSV:
        return _delimited_rows(payload.data)
    if payload.encoding is Encoding.JSON:
        return text_rows(payload.data, is_json=True)
    kind = payload.content_type.lower()
    if "libsvm" in kind:
        raise UnreadableError("LIBSVM, which has no columns")
    data = _unpacked(_decoded(payload), kind)
    if data.startswith(_NUMPY):
        return _array_rows(data)
    return text_rows(_text(data, kind), is_json="json" in kind)


def _delimited_rows(data: str) -> list[Row]:
    """CSV, or JSON that the endpoint's settings call CSV."""
    text = clean(data.removeprefix("\ufeff"))
    if text.lstrip()[:1] in ("{", "["):
        with suppress(UnreadableError):
            return _json_rows(text)
    return _csv_rows(text)


def text_rows(text: str, *, is_json: bool = False) -> list[Row]:
    """Return the rows of JSON, JSON Lines or CSV. Raise UnreadableError."""
    text = clean(text.removeprefix("\ufeff"))
    return _json_rows(text) if is_json or text.lstrip()[:1] in ("{", "[") else _csv_rows(text)


def _decoded(payload: Payload) -> bytes:
    """Flask's replies are text/html unless their type is set, and so end up as BASE64."""
    try:
        return base64.b64decode(_plain_base64(payload.data), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnreadableError("BASE64 that is not base64") from error


def _plain_base64(text: str) -> str:
    """Return base64 as the standard alphabet has it: in one line, padded, without - and _."""
    text = "".join(text.split()).translate(_URL_SAFE)
    return text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)


_URL_SAFE = str.maketrans("-_", "+/")


def _unpacked(data: bytes, kind: str) -> bytes:
    if not data.startswith(_GZIP):
        return data
    try:
        unpack = zlib.decompressobj(wbits=31)
        found = unpack.decompress(data, _LARGEST_BODY)
    except zlib.error as error:
        raise _no_text(kind) from error
    if unpack.unconsumed_tail or not unpack.eof:
        raise UnreadableError(f"gzip that is cut off, or of more than {_LARGEST_BODY >> 20} MiB")
    return found


def _text(data: bytes, kind: str) -> str:
    _, _, charset = kind.partition("charset=")
    name = charset.partition(";")[0].strip(' "') or "utf-8-sig"
    try:
        return data.decode("utf-16" if data.startswith(_UTF16) else name)
    except (UnicodeError, LookupError) as error:
        raise _no_text(kind) from error


def _no_text(kind: str) -> UnreadableError:
    return UnreadableError(f"BASE64 of {kind or 'no content type'} that is not text")


def _array_rows(data: bytes) -> list[Row]:
    """Rows of a .npy body; pickled objects in one are refused."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:
        raise UnreadableError("a .npy body that is cut off, or of objects") from error
    return [*document_rows(plain(array))]


def _csv_rows(text: str) -> list[Row]:
    try:
        found = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise UnreadableError(f"CSV: {error}") from error
    return [folded(row) for row in found] if may_fold(text) else [*found]


def _json_rows(text: str) -> list[Row]:
    return [row for document in _documents(text) for row in document_rows(document)]


def _documents(text: str) -> list[Any]:
    """One document, or one per line. Lines end with a line feed alone: other separators of lines
    (U+2028, U+0085) may stand within a string. JSON in a JSON string counts as JSON too."""
    try:
        found = json.loads(text)
    except ValueError:
        try:
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        except (ValueError, RecursionError) as error:
            raise UnreadableError("a body that is not JSON") from error
    except RecursionError as error:
        raise UnreadableError("JSON too deep") from error
    if isinstance(found, str) and found.lstrip()[:1] in ("{", "["):
        return _documents(found)
    return [found]


def paired(inputs: list[Row], outputs: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Yield row by row. One list of as many outputs as there are inputs is one for each; several
    single cells on one side and one row on the other are one row. Raise UnreadableError if the
    counts differ."""
    if not inputs or not outputs:
        for row in inputs:
            yield row, []
        for row in outputs:
            yield [], row
        return
    only = outputs[0]
    if len(inputs) > 1 and len(outputs) == 1 and isinstance(only, list) and len(only) > 1:
        outputs = [[value] for value in only] if len(only) == len(inputs) else outputs
    elif len(inputs) == 1:
        outputs = _merged(outputs)
    elif len(outputs) == 1:
        inputs = _merged(inputs)
    if len(inputs) != len(outputs):
        raise UnreadableError(
            "input and output differ in their number of rows",
            f"{len(inputs)} rows in, {len(outputs)} rows out",
        )
    yield from zip(inputs, outputs, strict=True)


def _merged(some: list[Row]) -> list[Row]:
    """Several rows of one cell each as one row; others as they are."""
    if len(some) > 1 and all(isinstance(row, list) and len(row) == 1 for row in some):
        return [[value for row in some for value in _values(row)]]
    return some


def _values(row: Row) -> list[str]:
    return row if isinstance(row, list) else [*row.values()]
