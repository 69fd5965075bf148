"""CSV by RFC 4180, read and written: quoted cells, three kinds of line ends, missing values.

Numbers are int64 (uint64) if all of them are integers, else float64. An empty cell and the usual
words for a missing value are NaN.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import math
from collections.abc import Sequence
from enum import Enum
from itertools import chain
from typing import TypeAlias

import numpy as np
import orjson

from sagemaker_byoc.contract.variables import CSV_HEADER
from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.error_replies import BadInput, NotAcceptable
from sagemaker_byoc.serving.worker.formats import values
from sagemaker_byoc.serving.worker.formats.values import Array

Rows: TypeAlias = "list[list[str]]"

MISSING = frozenset({"", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "null", "none"})
"""Words that pandas reads as a missing value, in lower case."""
_PLAIN = b"0123456789+-.eE,\n "
_FEW = 8
"""Columns up to which one flat list is read faster than one list per row."""
_HEADER_HINT = f". If the first row is a header, send text/csv; header=present, or set {CSV_HEADER}"


class NotNumbersError(Exception):
    """The rows hold text or differ in length; the message says where."""

    def __init__(self, message: str, rows: Rows) -> None:
        self.rows = rows
        """Without the header, if there is one."""
        super().__init__(message)


# ── numbers, quickly ──


def quick(raw: bytes, policy: str) -> Array | None:
    """Return rows of only JSON numbers, read as JSON; None for all others."""
    raw = raw.replace(b"\r\n", b"\n").strip(b"\n ")
    head = b""
    if policy != "absent":
        first, _, rest = raw.partition(b"\n")
        if b'"' in first:
            return None
        if policy == "present" or not _is_plain(first):
            head, raw = first, rest
    if not raw or not _is_plain(raw):
        return None
    try:
        array = _parsed(raw)
    except (ValueError, OverflowError):
        return None  # numbers in another form, or rows of different lengths
    if array.dtype.kind == "f" and not _has_fractions(raw):
        return None  # integers beyond 64 bits
    if head and policy == "auto" and not _is_header(head.decode(errors="replace"), array):
        return None
    return array


def _is_plain(raw: bytes) -> bool:
    return not raw.translate(None, _PLAIN)


def _has_fractions(raw: bytes) -> bool:
    return any(sign in raw for sign in (b".", b"e", b"E"))


def _parsed(raw: bytes) -> Array:
    dtype = np.float64 if b"." in raw else None
    width = raw.partition(b"\n")[0].count(b",") + 1
    if width > _FEW:
        rows = raw.replace(b"\n", b"],[")
        return np.asarray(orjson.loads(b"[[%b]]" % rows), dtype)
    signs = np.frombuffer(raw, np.uint8)
    ends = signs[(signs == ord(",")) | (signs == ord("\n"))] == ord("\n")
    rows_of_width = (ends.size + 1) // width
    if not ends[width - 1 :: width].all() or int(ends.sum()) != rows_of_width - 1:
        raise ValueError("rows of different lengths")
    return np.asarray(orjson.loads(b"[%b]" % raw.replace(b"\n", b",")), dtype).reshape(-1, width)


def _is_header(line: str, array: Array) -> bool:
    cells = line.split(",")
    return len(cells) == array.shape[1] and _are_names(cells)


# ── any rows ──


def decode(text: str, policy: str) -> Array:
    """Return rows of numbers; raise NotNumbersError for other rows, BadInput if there are none."""
    array = None if policy == "auto" else _read_by_numpy(text, skip=policy == "present")
    if array is not None:
        return array
    rows = rows_of(text)
    head: list[str] = []
    if rows and (policy == "present" or (policy == "auto" and _starts_with_header(rows))):
        head, rows = rows[0], rows[1:]
    if not rows:
        raise BadInput(f"The CSV body has no rows{' below its header' if head else ''}")
    return _array(rows, text, policy)


def _read_by_numpy(text: str, *, skip: bool) -> Array | None:
    """Return numbers that are quoted or not spelled as in JSON; None for all others."""
    every = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = [line for line in every if line.strip()][int(skip) :]
    if not lines or not _has_whole_quotes(text, lines):
        return None
    dtype = np.float64 if any(sign in text for sign in ".eEnN") else np.int64
    try:
        return np.loadtxt(lines, dtype, delimiter=",", quotechar='"', comments=None, ndmin=2)
    except (ValueError, OverflowError):
        return None


def _has_whole_quotes(text: str, lines: list[str]) -> bool:
    """Return whether quotes are only at the edges of cells and no cell spans two lines.

    numpy reads `"1"2` as 12, and "1 above 2" too.
    """
    if '"' not in text:
        return True
    if any(line.count('"') % 2 for line in lines):
        return False
    signs = np.frombuffer(f"\n{text}\n".encode(), np.uint8)
    is_edge = (signs == ord(",")) | (signs == ord("\n")) | (signs == ord("\r"))
    quotes = np.flatnonzero(signs == ord('"'))
    return bool((is_edge[quotes - 1] | is_edge[quotes + 1]).all())


def _array(rows: Rows, text: str, policy: str) -> Array:
    width = len(rows[0])
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            where = f"row {number} has {len(row)} cells, the first one {width}"
            raise NotNumbersError(where, rows)
    try:
        flat = _numbers(list(chain.from_iterable(rows)), text)
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
    try:
        _number(cell)
    except ValueError:
        return False
    return cell.strip().lower() not in MISSING


def _is_text(cell: str) -> bool:
    return not _is_number(cell) and cell.strip().lower() not in MISSING


def _numbers(cells: list[str], text: str) -> list[int] | list[float]:
    """Return integers if all are, else floats."""
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
    if cell.strip().lower() in MISSING:
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
    return "".join(map(_line, values.rows_of(array))).encode()


def _encode_numbers(array: Array) -> bytes:
    if array.ndim > 2:
        raise NotAcceptable(
            f"The result has {array.ndim} dimensions and text/csv holds two; accept {media.JSON}"
        )
    table = array.reshape(-1, 1) if array.ndim < 2 else array
    return "".join(f"{','.join(row)}\n" for row in table.astype(np.str_)).encode()


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
