"""Bodies to arrays and arrays to bodies, for the built-in types.

Decoders raise BadInput for whatever a caller may send, and nothing else. Nothing here unpickles.
NaN and the infinities are written as null, which is what JSON has; null is read as NaN.
"""

from __future__ import annotations

import io
import json
import math
import re
from codecs import BOM_UTF8
from codecs import lookup as lookup_codec
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.bodies import Data
from sagemaker_byoc.serving.error_replies import BadInput, NotAcceptable
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker.formats import csv_format, values
from sagemaker_byoc.serving.worker.formats.number_rows import FLOAT64, INT64, packed
from sagemaker_byoc.serving.worker.formats.values import NUMBERS, Array

CHARSETS = (
    *("utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252"),
    *("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
)
"""Python's names of the charsets, whose other spellings are accepted too."""
UTF8 = MediaType(media.CSV)
TEXT = "USMm"
"""Kinds of arrays that hold neither numbers nor objects."""
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
WRAPPERS = ("instances", "inputs")
"""Keys of objects that hold the rows, as clients of other servers send them."""


def decode_json(
    data: Data, media_type: MediaType, *, floats: Any = None, alone: bool = False
) -> tuple[Array, str | None]:
    """Return the numbers, and the key of the object that held them.

    `floats` is the type of the array; without it, integers are int64 (uint64), all others float64.
    With `alone`, an object is numbers only under `instances`, and if it has no other key: the
    `predict_fn` of a Hugging Face model gets an object with `inputs` as it is.
    """
    raw = _utf8(data, media_type)
    document, key = _unwrapped(_loads(raw), alone=alone)
    quotes = 0 if key is None else 2
    return numbers(document, raw, "The JSON body", quotes=quotes, floats=floats), key


def _unwrapped(document: Any, *, alone: bool) -> tuple[Any, str | None]:
    """Return an object's rows, under the key that clients of other servers use."""
    if not isinstance(document, dict):
        return document, None
    for key in WRAPPERS:
        if key in document:
            break
    else:
        key = ""
    if not key or (alone and (key != "instances" or len(document) > 1)):
        raise BadInput(
            "The JSON object has neither the key 'instances' nor 'inputs'; without an "
            "input_fn, the body is a list of numbers or an object that holds one"
        )
    return document[key], key


def parse_json(data: Data, media_type: MediaType) -> Any:
    """Return any JSON document, with integers of any size kept exact."""
    raw = _utf8(data, media_type)
    document = _loads(raw)
    return _loads_exactly(raw) if _LONG.search(raw) else document


_LONG = re.compile(rb"[0-9]{19}")
_NOT_JSON = (b"NaN", b"Infinity")
"""Numbers that Python's json writes, and so does SageMaker's SDK, though JSON has none."""


def _loads(raw: Data) -> Any:
    """Parse JSON; an error names the position where it stops being valid."""
    try:
        return orjson.loads(raw if type(raw) is bytes else memoryview(raw))
    except orjson.JSONDecodeError as error:
        whole = bytes(raw)
        if any(word in whole for word in _NOT_JSON):
            return _loads_exactly(whole)
        where = f"line {error.lineno} column {error.colno}"
        raise BadInput(f"The body is not JSON: {error.msg} at {where}") from None


def _loads_exactly(raw: Data) -> Any:
    """Parse as Python's json does: exact integers; NaN and the infinities are numbers."""
    try:
        return json.loads(bytes(raw))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The body is not JSON: {error}") from None


def decode_json_lines(data: Data, media_type: MediaType, *, floats: Any = None) -> Array:
    """Return a row for each line: a list, a number, or an object with `features`."""
    rows, has_text = [], False
    raw = bytes(_utf8(data, media_type))
    table = _lists(raw) if raw.startswith(b"[") else _features(raw)
    if table is not None:
        return numbers(table, raw, "The lines", quotes=None, floats=floats)
    may_have_text = b'"' in raw
    if not may_have_text:  # then it is not part of a text, and null reads as NaN
        raw = raw.replace(b"NaN", b"null")
    for number, line in enumerate(raw.splitlines(), start=1):
        if line < b"!" and not line.strip():  # no JSON begins below it: only these may be blank
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            row = _line(line, number)
        quotes = 0
        if isinstance(row, dict) and "features" in row:
            row, quotes = row["features"], 2
        has_text = has_text or (may_have_text and _has_text(line, quotes))
        rows.append(row)
    return numbers(rows, raw, "The lines", quotes=0 if has_text else None, floats=floats)


def _lists(raw: bytes) -> list[Any] | None:
    """Parse all lines at once if each is a list without text and without a list inside."""
    raw = raw.replace(b"\r\n", b"\n").strip(b"\n ")
    lines = raw.count(b"[")
    is_flat = raw.endswith(b"]") and (lines == 1 or raw.count(b"]\n[") == lines - 1)
    if not is_flat or raw.count(b"\n") != lines - 1 or b'"' in raw or b"\r" in raw:
        return None
    try:
        return orjson.loads(b"[%b]" % raw.replace(b"\n", b","))  # type: ignore[no-any-return]
    except orjson.JSONDecodeError:
        return None


def _features(raw: bytes) -> list[Any] | None:
    """Parse all lines if each is an object with only `features`, without text."""
    if not raw.startswith(b"{"):
        return None
    try:
        rows = [orjson.loads(line)["features"] for line in raw.splitlines()]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return None
    return rows if raw.count(b'"') == 2 * len(rows) else None


def _line(line: bytes, number: int) -> Any:
    try:
        return _loads(line)
    except BadInput as error:
        raise BadInput(f"Line {number}: {error.message}") from None


def parse_json_lines(data: Data, media_type: MediaType) -> list[Any]:
    """Return the document of each line."""
    lines = bytes(_utf8(data, media_type)).splitlines()
    return [_line(line, number) for number, line in enumerate(lines, start=1) if line.strip()]


def numbers(
    document: Any, raw: Data, what: str, *, quotes: int | None, floats: Any = None
) -> Array:
    """Return the document as an array; null is NaN. Raise BadInput for all that is not numbers.

    `quotes` is the number of quotation marks that `raw` has if the document has no text, None if it
    is known to have none: numpy would read numbers from text, and would make an array of texts all
    of which are as long as the longest.
    """
    has_text = None
    if floats is not None:
        array = packed(document, floats)
    elif not _has_fractions(raw):
        array = packed(document, INT64)
    else:
        has_text = quotes is not None and _has_text(raw, quotes)  # whose points do not count
        floats = None if has_text else FLOAT64  # one fraction makes all of them floats
        array = packed(document, floats) if floats else None
    if array is not None:
        return array
    if has_text is None:
        has_text = quotes is not None and _has_text(raw, quotes)
    return _checked(document, what, floats, has_text=has_text)


def _checked(document: Any, what: str, floats: Any, *, has_text: bool) -> Array:
    refusal = f"{what} must hold numbers, or lists of numbers of equal length"
    if not isinstance(document, list | int | float):
        raise BadInput(refusal)
    try:
        if has_text:
            leaves = np.asarray(document, dtype=object).ravel().tolist()
            if not all(leaf is None or isinstance(leaf, int | float) for leaf in leaves):
                raise BadInput(refusal)
        array = _exact(document) if floats is None else _as_floats(document, floats)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadInput(f"{refusal}: {error}") from None
    if array is None:
        raise BadInput(f"{what} holds integers of more than 64 bits")
    return array


def _as_floats(document: Any, floats: Any) -> Array:
    if floats is FLOAT64:
        return np.asarray(document, dtype=floats)
    with np.errstate(over="ignore"):
        return np.asarray(document, dtype=floats)


_EXPONENT = re.compile(rb"[0-9][eE]")


def _has_fractions(raw: Data) -> bool:
    """Return whether a number has a point or an exponent; the letters of a word do not count."""
    if raw.find(b".") >= 0:
        return True
    start = max(raw.find(b"["), 0)
    has_letter = raw.find(b"e", start) >= 0 or raw.find(b"E", start) >= 0
    return has_letter and _EXPONENT.search(raw) is not None


def _has_text(raw: Data, quotes: int) -> bool:
    """Return whether there are more quotation marks than `quotes`."""
    if type(raw) is bytes:  # most bodies are, and small; this is one call
        return raw.count(b'"') > quotes
    position = -1
    for _ in range(quotes + 1):
        position = raw.find(b'"', position + 1)
        if position < 0:
            return False
    return True


def _exact(document: Any) -> Array | None:
    """Return integers as integers; None if no numpy type holds all of them."""
    array = np.asarray(document)
    if array.dtype.kind in "biu":
        return array
    leaves = np.asarray(document, dtype=object).ravel().tolist()
    if not leaves or not all(map(_is_whole, leaves)):
        return np.asarray(document, dtype=np.float64)
    return values.unsigned(document, leaves)


def _is_whole(leaf: object) -> bool:
    """Return whether a number has no fraction; integers over 64 bits are parsed as floats."""
    return isinstance(leaf, int) or (isinstance(leaf, float) and 2**63 <= abs(leaf) < math.inf)


def decode_csv(data: Data, media_type: MediaType, *, header: str, floats: Any = None) -> Array:
    """Return rows of numbers. RFC 4180's parameter `header` overrides the setting.

    `floats` is the type of all of them, as for JSON.
    """
    policy = media_type.parameters.get("header", header).lower()
    raw = _utf8(data, media_type)
    raw = raw if type(raw) is bytes else bytes(raw)
    array = csv_format.quick(raw, policy, floats)
    if array is None:
        try:
            array = csv_format.decode(text_of(raw, UTF8), policy)
        except csv_format.NotNumbersError as error:
            raise BadInput(f"The CSV body must hold rows of numbers: {error}") from error
    if floats is None or array.dtype == floats:
        return array
    with np.errstate(over="ignore"):
        return array.astype(floats)


def decode_npy(data: Data, *, kinds: str = NUMBERS) -> Array:
    """Return a view of the body: nothing is copied, and no object is built from it."""
    size = 10 + int.from_bytes(data[8:10], "little")  # of the head, in version 1
    try:
        if data[6:8] == b"\x01\x00" and size <= _NPY_SHORT:
            shape, fortran, dtype, offset = _known_npy_head(bytes(data[:size]))
        else:
            shape, fortran, dtype, offset = _npy_head(data[:_NPY_HEAD])
    except Exception as error:  # noqa: BLE001 - a forged header is parsed as Python text inside
        raise BadInput(f"The body is not a .npy file: {error}") from None
    if dtype.hasobject:
        raise BadInput("The .npy file holds pickled objects, which are never loaded; send numbers")
    if dtype.kind not in kinds:
        raise BadInput(f"The .npy file holds {dtype}; send numbers")
    if not all(type(extent) is int for extent in shape):  # True is one for numpy's reader
        raise BadInput(f"The .npy file's shape is {shape}")
    count = 1
    for extent in shape:
        count *= extent
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(data) - offset:
        raise BadInput(f"The .npy file announces {shape} of {dtype} and has another size")
    flat = np.frombuffer(data, dtype, count, offset) if count else np.empty(0, dtype)
    try:
        return flat.reshape(shape, order="F" if fortran else "C")
    except (ValueError, OverflowError) as error:  # too many axes; one too long beside an empty one
        raise BadInput(f"The .npy file's shape is invalid: {error}") from None


def _npy_head(data: bytes) -> tuple[Any, bool, Any, int]:
    """Return shape, order and type, and where the numbers begin."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    return (*_NPY_READERS[version](stream), stream.tell())


# numpy takes 30 microseconds for it, and clients send the same one again and again.
_known_npy_head = lru_cache(64)(_npy_head)
_NPY_SHORT = 256
_NPY_HEAD = 16 * 1024
_NPY_READERS: dict[tuple[int, int], Callable[[io.BytesIO], tuple[Any, bool, Any]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _utf8(data: Data, media_type: MediaType) -> Data:
    """Return the body in UTF-8 without its byte order mark."""
    if media_type.parameters and _codec(media_type.charset) not in {"utf-8", "ascii"}:
        return text_of(bytes(data[:]), media_type).encode()
    return data if data[:3] != BOM_UTF8 else data[3:]


def text_of(data: bytes, media_type: MediaType) -> str:
    """Return the text in `data` by its charset, only one of CHARSETS."""
    codec = _codec(media_type.charset)
    try:
        return data.decode(codec).removeprefix("\ufeff")
    except ValueError as error:
        raise BadInput(f"The body is not text in {codec}: {error}") from None


@lru_cache(media.CACHED)
def _codec(charset: str) -> str:
    """Return Python's name of a charset, however the caller spells it."""
    try:
        name = lookup_codec(charset).name
    except (LookupError, ValueError):
        name = ""
    if name not in CHARSETS:
        raise BadInput(f"Charset {charset[:40]!r} is not one of {', '.join(CHARSETS)}")
    return name


# ── encoders ──


def encode_text(text: str, media_type: MediaType | None) -> bytes:
    """Return text in the charset that its media type names, in UTF-8 if that is unknown."""
    try:
        codec = "utf-8" if media_type is None else _codec(media_type.charset)
    except BadInput:
        codec = "utf-8"
    return str.encode(text, codec)  # whatever a subclass does


def encode_json(document: object) -> bytes:
    """Write a value as JSON, in as many steps as needed; raise TypeError if JSON cannot hold
    it."""
    return _dump(document, _OPTIONS)


def _dump(document: object, options: int) -> bytes:
    try:
        written = orjson.dumps(document, default=values.simpler, option=options)
        if b"T" not in written or _EPOCH not in written:  # one sign is found far faster
            return written
    except TypeError as error:
        if isinstance(error.__cause__, NotAcceptable):
            raise error.__cause__ from None
    written = values.to_json(document)
    return written + b"\n" if options & orjson.OPT_APPEND_NEWLINE else written


_EPOCH = b"1970-01-01T00:00:00"
"""Text that orjson writes for some of numpy's missing datetimes (NaT)."""


def encode_json_lines(rows: Iterable[object]) -> bytes:
    """Write a line per row."""
    if values.has_numbers(rows):
        if 0 < rows.ndim < 3 and rows.size and rows.dtype.isnative:
            if len(rows) == 1:
                return encode_json(rows)[1:-1] + b"\n"
            if rows.size < _WIDE * len(rows):
                table = encode_json(rows)[1:-1]
                ends = (b",", b"\n") if rows.ndim == 1 else (b"],[", b"]\n[")
                return table.replace(*ends) + b"\n"
    elif type(rows) is list and len(rows) > 1 and set(map(type, rows)) == {list}:
        written = _flat_lists(rows)
        if written is not None:
            return written
    return b"".join(_dump(row, _OPTIONS | orjson.OPT_APPEND_NEWLINE) for row in rows)


_WIDE = 64
"""Columns from which on rows are written one by one faster than a table is cut into lines."""


def _flat_lists(rows: list[list[Any]]) -> bytes | None:
    """Write lists without text and without lists inside, all at once; None for all others."""
    if len(rows[0]) >= _WIDE:
        return None
    try:
        written = orjson.dumps(rows, option=_OPTIONS)
    except TypeError:
        return None
    if b'"' in written or written.count(b"[") != len(rows) + 1:
        return None
    return written[1:-1].replace(b"],[", b"]\n[") + b"\n"


def encode_npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
