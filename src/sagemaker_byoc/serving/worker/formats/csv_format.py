"""CSV by RFC 4180, read and written: quoted cells, three kinds of line ends, missing values.

Numbers are int64 (uint64) if all of them are integers, else float64. An empty cell and the usual
words for a missing value are NaN.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import math
import re
from collections.abc import Sequence
from enum import Enum
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import orjson

from sagemaker_byoc.contract.variables import CSV_HEADER
from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.error_replies import BadInput, NotAcceptable
from sagemaker_byoc.serving.worker.formats import values
from sagemaker_byoc.serving.worker.formats.number_rows import FLOAT64, INT64, REFUSALS, pack_into
from sagemaker_byoc.serving.worker.formats.values import Array

Rows: TypeAlias = "list[list[str]]"

MISSING = frozenset({"", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "null", "none"})
"""Words that pandas reads as a missing value, in lower case."""
_NUMERALS = b"0123456789+-.eE "
_PLAIN = _NUMERALS + b",\n"
_INSIDE_CELLS = bytes(set(range(256)) - set(b',\n"'))
_MAY_BE_NAN = re.compile(rb"[nNiI]")
_BLOCK = 2**18
"""Bytes parsed at once: their numbers stay in the processor's cache until they are packed."""
_HEADER_HINT = f". If the first row is a header, send text/csv; header=present, or set {CSV_HEADER}"


class NotNumbersError(Exception):
    """The rows hold text or differ in length; the message says where."""

    def __init__(self, message: str, rows: Rows) -> None:
        self.rows = rows
        """Without the header, if there is one."""
        super().__init__(message)


# ── numbers, quickly ──


def quick(raw: bytes, policy: str, floats: Any = None) -> Array | None:
    """Return rows of only numbers; None for all others, and if only `decode` can tell.

    Rows with a fraction are of type `floats`, float64 by default; integers are not.
    """
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    raw = raw.strip(b"\n" if b'"' in raw else b"\n ")  # a space beside a quote is an error
    names: list[str] = []
    if policy in {"present", "auto"}:
        split = _without_header(raw, policy)
        if split is None:
            return None
        names, raw = split
    if b" " in raw and b'"' not in raw:
        raw = raw.replace(b", ", b",").replace(b" ,", b",")
    separators = raw.translate(None, _NUMERALS)
    width = _width(separators)
    is_plain = width > 0
    if not is_plain:
        separators = raw.translate(None, _INSIDE_CELLS)
        if b'"' in separators:
            raw, separators = _unquoted(raw, separators)
        width = _width(separators)
        is_plain = _is_plain(raw)
    if not raw or not width:
        return None
    shape = ((len(separators) + 1) // width, width)
    flat = raw.replace(b"\n", b",")
    if b"." in flat or b"e" in flat or b"E" in flat or (not is_plain and _MAY_BE_NAN.search(flat)):
        array = _floats(flat, shape, floats or FLOAT64, is_plain=is_plain)
    else:
        array = _integers(flat, shape) if is_plain else None
    if array is None or (names and not _are_above(names, array)):
        return None
    return array


def _without_header(raw: bytes, policy: str) -> tuple[list[str], bytes] | None:
    """Return names that may be a header and have to be compared with the data, and the data."""
    first, _, rest = raw.partition(b"\n")
    if policy == "auto" and _is_plain(first):
        return [], raw
    if first.isspace() or first.count(b'"') % 2:
        return None
    if policy == "present" and b'"' not in first:
        return [], rest
    text = first.decode(errors="replace")
    try:
        (cells,) = csv.reader([text], strict=True) if '"' in text else (text.split(","),)
    except (csv.Error, ValueError):
        return None
    if policy == "present":
        return [], rest
    return (cells, rest) if _are_names(cells) else ([], raw)


def _are_above(names: list[str], array: Array) -> bool:
    """Return whether one of these names is above a number."""
    pairs = zip(names, array[0])  # noqa: B905 - compared first
    return len(names) == array.shape[1] and any(
        not math.isnan(number) and _is_text(name) for name, number in pairs
    )


def _is_plain(raw: bytes) -> bool:
    return not raw.translate(None, _PLAIN)


def _width(separators: bytes) -> int:
    """Return the number of columns; 0 if the lines differ or there are other signs."""
    width = separators.find(b"\n") + 1
    if not width:
        return len(separators) + 1 if separators.count(b",") == len(separators) else 0
    rows, rest = divmod(len(separators) + 1, width)
    line = b"," * (width - 1) + b"\n"
    return 0 if rest or separators != (line * rows)[:-1] else width


def _unquoted(raw: bytes, separators: bytes) -> tuple[bytes, bytes]:
    """Return rows and separators without quotes; nothing if not all are at both ends of a cell."""
    cells = b",%b," % raw.replace(b"\n", b",")
    at_ends = cells.count(b',"') + cells.count(b'",')
    if b'"' in separators.replace(b'""', b"") or at_ends != raw.count(b'"'):
        return b"", b""
    return raw.translate(None, b'"'), separators.translate(None, b'"')


def _integers(flat: bytes, shape: tuple[int, int]) -> Array | None:
    """Return integers of 64 bits, and floats if a cell is empty."""
    array = _by_numpy(flat, shape) if shape[0] * shape[1] > _FEW else None
    if array is not None:
        return array
    try:
        numbers = orjson.loads(b"[%b]" % flat)
    except ValueError:  # an empty cell makes all of them floats
        return _floats(flat, shape, FLOAT64, is_plain=True) if b",," in b",%b," % flat else None
    array = np.empty(shape, INT64)
    if array.size != len(numbers):
        return None
    try:
        pack_into(array, 0, numbers)
    except REFUSALS:  # over 63 bits
        array = np.asarray(numbers).reshape(shape)
    return array if array.dtype.kind in "iu" else None  # floats have more than 64 bits


_FEW = 128
"""Integers up to which orjson is at least as fast as `np.fromstring`, which needs half the time for
10,000 of them, and five times the time if there are fractions: benchmarks/formats.md."""


def _by_numpy(flat: bytes, shape: tuple[int, int]) -> Array | None:
    """Return integers; None if one is spelled as only others do, or has more than 64 bits.

    `np.fromstring` takes a sign alone as zero, skips spaces, stops at the first cell that is not
    an integer, and replaces integers that are too large by the largest.
    """
    last = flat[flat.rfind(b",") + 1 :]
    digits = last[1:] if last.startswith((b"+", b"-")) else last
    if not digits.isdigit() or b"+" in flat or b" " in flat:
        return None
    has_minus = b"-" in flat
    if has_minus and b"-," in flat:
        return None
    try:
        array = np.fromstring(flat, np.int64, sep=",")
    except (ValueError, DeprecationWarning):
        return None
    if array.size != shape[0] * shape[1] or array[array.argmax()] == _MOST:
        return None
    return array.reshape(shape) if not has_minus or array[array.argmin()] > _LEAST else None


_LEAST, _MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def _floats(flat: bytes, shape: tuple[int, int], dtype: Any, *, is_plain: bool) -> Array | None:
    array: Array = np.empty(shape, dtype)
    place = start = 0
    end = size = len(flat)
    try:
        while start <= size:
            if size - start > _BLOCK:
                end = flat.find(b",", start + _BLOCK)
                end = size if end < 0 else end
            else:
                end = size
            numbers = _numbers_of(flat[start:end], shape[1], is_plain=is_plain)
            pack_into(array, place, numbers)
            place, start = place + len(numbers), end + 1
    except (ValueError, *REFUSALS):
        return None
    return array if place == array.size else None


def _numbers_of(cells: bytes, width: int, *, is_plain: bool) -> list[Any]:
    if cells and (is_plain or _is_plain(cells)):
        try:
            return orjson.loads(b"[%b]" % cells)  # type: ignore[no-any-return]
        except orjson.JSONDecodeError:
            pass  # numbers in another form, or empty cells
    if b"_" in cells:
        raise ValueError(cells)
    # A line without a cell is not a row.
    return [float(cell) if cell or width == 1 else math.nan for cell in cells.split(b",")]


# ── any rows ──


def decode(text: str, policy: str) -> Array:
    """Return rows of numbers; raise NotNumbersError for other rows, BadInput if there are none."""
    rows = rows_of(text)
    head: list[str] = []
    if rows and (policy == "present" or (policy == "auto" and _starts_with_header(rows))):
        head, rows = rows[0], rows[1:]
    if not rows:
        raise BadInput(f"The CSV body has no rows{' below its header' if head else ''}")
    return _array(rows, policy)


def _array(rows: Rows, policy: str) -> Array:
    width = len(rows[0])
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            where = f"row {number} has {len(row)} cells, the first one {width}"
            raise NotNumbersError(where, rows)
    try:
        flat = _numbers(list(chain.from_iterable(rows)))
    except ValueError:
        raise NotNumbersError(_first_text(rows, policy), rows) from None
    array: Array = np.asarray(flat)
    if array.dtype.kind not in "iu" and all(isinstance(number, int) for number in flat):
        unsigned = values.unsigned(flat, flat)
        if unsigned is None:
            raise NotNumbersError("they hold integers of more than 64 bits", rows)
        array = unsigned
    return array.reshape(len(rows), width)


def rows_of(text: str) -> Rows:
    """Return the cells of all rows; blank lines are not rows."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    try:
        read = csv.reader(io.StringIO(text, newline=""), strict=True)
        return [row for row in read if row and not (len(row) == 1 and row[0].isspace())]
    except csv.Error as error:
        raise BadInput(f"The body is not CSV: {error}") from None


def _starts_with_header(rows: Rows) -> bool:
    """Return whether the first row has text above a number, and no number itself.

    A cell without a value decides nothing: it may be the first of the data. A number beside text
    may belong to a first row of data with one bad cell, which must not be dropped silently.
    """
    if len(rows) == 1 or not _are_names(rows[0]):
        return False
    return any(_is_text(above) and _is_number(below) for above, below in zip(*rows[:2]))  # noqa: B905


def _are_names(cells: list[str]) -> bool:
    return any(map(_is_text, cells)) and not any(map(_is_number, cells))


def _is_number(cell: str) -> bool:
    if cell[:1].isalpha() and cell[0] not in "nNiI":  # neither nan nor inf: the most of all names
        return False
    try:
        _number(cell)
    except ValueError:
        return False
    return cell.strip().lower() not in MISSING


def _is_text(cell: str) -> bool:
    return not _is_number(cell) and cell.strip().lower() not in MISSING


def _numbers(cells: list[str]) -> list[int] | list[float]:
    """Return integers if all are, else floats."""
    text = "".join(cells)
    if not text.isascii():  # some spaces are not
        cells = [cell.strip() for cell in cells]
        text = "".join(cells)
    if text.isascii() and "_" not in text:  # of which int and float would take too much
        for kind in (int, float, _float_or_nothing):
            try:
                return list(map(kind, cells))
            except ValueError:
                continue
    return [_number(cell) for cell in cells]


def _float_or_nothing(cell: str) -> float:
    return float(cell) if cell else math.nan


def _number(cell: str) -> float:
    cell = cell.strip()
    if cell.lower() in MISSING:
        return math.nan
    if not cell.isascii() or "_" in cell:
        raise ValueError(cell)
    return float(cell)


def _first_text(rows: Rows, policy: str) -> str:
    for number, row in enumerate(rows, start=1):
        for column, cell in enumerate(row, start=1):
            if _is_text(cell):
                hint = _hint(number, row, cell, policy)
                return f"row {number}, column {column} holds {cell[:40]!r}{hint}"
    return "they do not"


def _hint(number: int, row: list[str], cell: str, policy: str) -> str:
    if len(row) == 1 and (";" in cell or "\t" in cell):
        return ". Cells are separated by commas"
    return _HEADER_HINT if number == 1 and policy != "present" else ""


# ── replies ──


def encode(value: object) -> bytes:
    """Write a line per row, each ended by a newline, without a header; a vector is a column."""
    array = values.plain(value)
    if values.has_numbers(array):
        return _encode_numbers(np.asarray(array))
    if type(array) is list:
        written = _encode_lists(array)
        if written is not None:
            return written
    return "".join(map(_line, values.rows_of(array))).encode()


def _encode_numbers(array: Array) -> bytes:
    if array.ndim > 2:
        raise NotAcceptable(
            f"The result has {array.ndim} dimensions and text/csv holds two; accept {media.JSON}"
        )
    table = array.reshape(-1, 1) if array.ndim < 2 else array
    if table.dtype.kind not in "iuf" or table.dtype.char in "eg" or not table.size:
        # orjson writes half precision with the digits of single, and no long doubles.
        return "".join(f"{','.join(row)}\n" for row in table.astype(np.str_)).encode()
    table = np.ascontiguousarray(table, table.dtype.newbyteorder("="))
    written = orjson.dumps(table, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"n" in written:  # null, for NaN and the infinities
        words = table[~np.isfinite(table)].astype(np.str_).tolist()
        parts = zip(written.decode().split("null"), [*words, ""], strict=True)
        written = "".join(chain.from_iterable(parts)).encode()
    return written[2:-2].replace(b"],[", b"\n") + b"\n"


def _encode_lists(rows: list[Any]) -> bytes | None:
    """Return rows of finite numbers, written as JSON and cut into lines; None for all others."""
    try:
        written = orjson.dumps(rows, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
    except TypeError:
        return None
    signs = written.translate(None, _NUMERALS)
    if signs == b"[%b]" % (b"," * (len(rows) - 1)):
        return written[1:-1].replace(b",", b"\n") + b"\n" if rows else None
    row = b"[%b]" % (b"," * (signs.find(b"]") - 2))
    if signs != b"[%b]" % b",".join([row] * len(rows)):
        return None
    return written[2:-2].replace(b"],[", b"\n") + b"\n"


def _line(row: Sequence[object]) -> str:
    cells = [_cell(entry) for entry in row]
    return '""\n' if cells == [""] else f"{','.join(cells)}\n"  # an empty line would be no row


def _cell(entry: object) -> str:
    if values.is_missing(entry):
        return ""
    if isinstance(entry, Enum):
        entry = entry.value
    if isinstance(entry, str):
        needs_quotes = any(sign in entry for sign in ',"\r\n') or entry != entry.strip()
        return '"' + entry.replace('"', '""') + '"' if needs_quotes else entry
    if isinstance(entry, int | float | complex | np.number | np.bool):
        return str(entry)
    if isinstance(entry, dt.date | dt.time):
        return entry.isoformat()
    found = values.simpler(entry) if not isinstance(entry, list | tuple | dict) else entry
    if isinstance(found, str | int | float):
        return _cell(found)
    raise NotAcceptable(
        f"A cell of the result is a {type(entry).__name__}, for which CSV has no form; accept "
        f"{media.JSON}"
    )
