"""A captured body as rows: CSV, JSON, JSON Lines, base64 of any of these, arrays of numpy.

The usual body, one CSV row, does not come this way (see captures).
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
import numbers
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import date, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

import numpy as np

from sagemaker_byoc.contract.capture import Encoding, Payload
from sagemaker_byoc.monitor.inputs.documents import (
    Row,
    UnreadableError,
    cell,
    clean,
    document_rows,
    folded,
    may_fold,
)

_LARGEST_BODY = 64 << 20
"""Bytes of a compressed body once it is unpacked: twice what an endpoint takes and returns."""
_GZIP, _NUMPY = b"\x1f\x8b", b"\x93NUMPY"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def rows(payload: Payload | None) -> list[Row]:
    """Return the rows of a body. Raise UnreadableError."""
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
    """Return the rows of CSV, or of JSON that the endpoint's settings call CSV."""
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
    """Return the bytes of BASE64, as which Flask's replies are captured: they are text/html."""
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
    """Return the rows of a .npy body; pickled objects in one are refused."""
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
    """Return one document, or one per line. Lines end with a line feed alone: other separators of
    lines (U+2028, U+0085) may stand within a string. JSON in a JSON string counts as JSON too."""
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
    """Join several rows of one cell each into one; return others as they are."""
    if len(some) > 1 and all(isinstance(row, list) and len(row) == 1 for row in some):
        return [[value for row in some for value in _values(row)]]
    return some


def _values(row: Row) -> list[str]:
    return row if isinstance(row, list) else [*row.values()]


# ── values of Python code ──


_MOST_ITEMS = 1_000_000
"""Items of a list that a generator makes: one that never ends must not take all memory."""
_MOST_BITS = 4096
"""Bits of an integer: Python refuses to write those of more than 4,300 digits."""


def plain(value: Any, where: str = "") -> Any:
    """Return a Python value as JSON would have it: numbers of numpy, pandas and decimal stay
    numbers, frames are lists of objects, times are ISO 8601. Raise UnreadableError, naming the type
    and `where` it stands, for a value that is not data."""
    if value is None or isinstance(value, bool | str) or type(value) is float:
        return value
    if isinstance(value, Mapping):
        return {_key(key): plain(each, _inner(where, key)) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        found = value._asdict()
        if type(value).__name__ == "Pandas":  # of `itertuples`
            found.pop("Index", None)
        return plain(found, where)
    if isinstance(value, list | tuple):
        return [plain(each, _inner(where, place)) for place, each in enumerate(value)]
    scalar = _scalar(value, where)
    if scalar is not _NOT_A_SCALAR:
        return scalar
    return plain(_container(value, where), where)


_SCALARS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (np.bool_, bool),
    (Decimal, lambda value: str(value) if value.is_finite() else _not_finite(value)),
    (np.timedelta64, lambda value: float(value / np.timedelta64(1, "s"))),  # an Integral to Python
    (np.datetime64, str),
    (numbers.Integral, int),
    (np.floating, lambda value: float(str(value))),  # the shortest text: what a float32 stands for
    (numbers.Real, float),
    (timedelta, timedelta.total_seconds),
    (date | time, lambda value: value.isoformat()),
    (UUID, str),
)
_NOT_A_SCALAR = object()


def _not_finite(value: Decimal) -> float:
    """A signaling NaN can't be a float: it counts as any other."""
    return float("nan") if value.is_nan() else float(value)


def _scalar(value: Any, where: str) -> Any:
    """Return a number, or a time as text; `_NOT_A_SCALAR` for anything else. Raise UnreadableError
    for an integer that is too long to be written."""
    if type(value).__name__ in ("NAType", "NaTType") or _is_nat(value):
        return None
    convert = next((convert for kind, convert in _SCALARS if isinstance(value, kind)), None)
    found = _NOT_A_SCALAR if convert is None else convert(value)
    if isinstance(found, int) and found.bit_length() > _MOST_BITS:
        raise _no_data(value, where, f", as it has more than {_MOST_BITS:,} bits")
    return found


def _is_nat(value: Any) -> bool:
    return isinstance(value, np.datetime64 | np.timedelta64) and bool(np.isnat(value))


def _container(value: Any, where: str) -> Any:
    """Unpack one level. Raise UnreadableError."""
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError as error:
            raise _no_data(value, where, ", as they are not UTF-8") from error
    way = next((way for name, way in _WAYS if hasattr(value, name)), None)
    if way is not None and not isinstance(value, type):
        return way(value)
    is_sized = isinstance(value, Iterable) and hasattr(value, "__len__")
    if isinstance(value, set | frozenset):
        raise _no_data(value, where, ", as it has no order")
    if isinstance(value, Iterator) or is_sized:
        return _drained(value, where)
    raise _no_data(value, where)


def _framed(value: Any) -> Any:
    """Return a frame as its rows, a series as a row; as a list if its index has no names."""
    if hasattr(value, "columns"):
        return value.to_dict(orient="records")
    found = value.to_dict()
    return found if all(isinstance(key, str) for key in found) else [*found.values()]


def _listed(value: Any) -> Any:
    """Return an array as lists, each number as `plain` has it (float32 among them)."""
    if not isinstance(value, np.ndarray):
        return value.tolist()
    if value.dtype.names:  # of records
        return [dict(zip(value.dtype.names, row, strict=True)) for row in value.ravel().tolist()]
    is_short = value.dtype in (np.float16, np.float32)
    return value.astype(str).astype(np.float64).tolist() if is_short else value.tolist()


_WAYS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("iloc", _framed),
    ("tolist", _listed),  # arrays, tensors
    ("to_dicts", lambda value: value.to_dicts()),  # polars
    ("to_pylist", lambda value: value.to_pylist()),  # tables of pyarrow
    ("as_py", lambda value: value.as_py()),  # its scalars
    ("_value_", lambda value: value.value),  # enumerations
    ("model_dump", lambda value: value.model_dump()),  # pydantic
    ("toarray", lambda value: value.toarray()),  # sparse matrices of scipy
    ("__dataclass_fields__", asdict),
)
"""How things of other libraries become Python's, by what only these have."""


def _drained(value: Iterable[Any], where: str) -> list[Any]:
    found = [*islice(value, _MOST_ITEMS + 1)]
    if len(found) > _MOST_ITEMS:
        raise _no_data(value, where, f", as it has more than {_MOST_ITEMS:,} items")
    return found


def _key(key: Any) -> str:
    return key if isinstance(key, str) else cell(plain(key))


def _inner(where: str, key: Any) -> str:
    return f"{where}[{key!r}]"[:120]


def _no_data(value: Any, where: str, more: str = "") -> UnreadableError:
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return UnreadableError(f"a value of type {name} is not data{more}", f"at {where or 'the top'}")
