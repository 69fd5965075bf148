"""Bodies to arrays and arrays to bodies, for the types that need no code of the user's.

Decoders raise BadInput for whatever a caller may send, and nothing else. Nothing here unpickles.
In JSON, NaN and the infinities are null, which is what the format has; null reads as NaN.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.bodies import Data
from sagemaker_byoc.serving.errors import BadInput, NotAcceptable
from sagemaker_byoc.serving.media import MediaType

Array: TypeAlias = npt.NDArray[Any]
CHARSETS = frozenset(
    {"utf-8", "utf8", "us-ascii", "iso-8859-1", "latin-1", "windows-1252", "utf-16", "utf-32"}
)
NUMBERS = "biufc"
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
WRAPPERS = ("instances", "inputs")
"""Objects that hold the rows, as clients of other servers write them."""


def decode_json(data: Data, media_type: MediaType) -> tuple[Array, str | None]:
    """The numbers, and the name of the object's key that they stood under."""
    document = parse_json(data, media_type)
    key = None
    if isinstance(document, dict):
        key = next((name for name in WRAPPERS if name in document), None)
        if key is None:
            raise BadInput(
                "The JSON object has neither of the keys 'instances' and 'inputs'; without an "
                "input_fn, the body is a list of numbers or an object that holds one"
            )
        document = document[key]
    return _numbers(document, "The JSON body"), key


def parse_json(data: Data, media_type: MediaType) -> Any:
    """Any JSON document; the position where it stops being one is named."""
    try:
        return orjson.loads(_utf8(data, media_type))
    except orjson.JSONDecodeError as error:
        raise BadInput(
            f"The body is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None


def decode_json_lines(data: Data, media_type: MediaType) -> Array:
    """A row a line: a list, a number, or an object with `features`."""
    rows = []
    for number, line in enumerate(bytes(_utf8(data, media_type)).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadInput(
                f"Line {number} is not JSON: {error.msg} at column {error.colno}"
            ) from None
        rows.append(row["features"] if isinstance(row, dict) and "features" in row else row)
    return _numbers(rows, "The lines")


def _numbers(document: object, what: str) -> Array:
    """As float32; null becomes NaN."""
    if not isinstance(document, list | int | float):
        raise BadInput(f"{what} must hold numbers, or lists of numbers of equal length")
    try:
        with np.errstate(over="ignore"):
            return np.asarray(document, dtype=np.float32)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadInput(
            f"{what} must hold numbers, or lists of numbers of equal length: {error}"
        ) from None


def decode_csv(data: Data, media_type: MediaType, *, header: str) -> Array:
    """Rows of numbers as float32. RFC 4180's parameter `header` comes before the setting."""
    text = _text(data, media_type).strip("\r\n")
    policy = media_type.parameters.get("header", header).lower()
    first, _, rest = text.partition("\n")
    if policy == "present" or (policy == "auto" and first and not _is_numeric(first)):
        text = rest
    rows = _plain_rows(text)
    return _quoted_rows(text, policy) if rows is None else rows


def _plain_rows(text: str) -> Array | None:
    """Rows of nothing but JSON's numbers, read as JSON, four times as fast; None for all others."""
    text = text.strip()
    if not text or text.translate(_OF_NUMBERS):
        return None
    joined = text.replace("\n", "],[")
    try:
        with np.errstate(over="ignore"):
            return np.asarray(orjson.loads(f"[[{joined}]]"), dtype=np.float32)
    except (ValueError, OverflowError):
        return None  # numbers in another form, or rows of different lengths


_OF_NUMBERS = dict.fromkeys(map(ord, "0123456789+-.eE,\n "))


def _quoted_rows(text: str, policy: str) -> Array:
    """Rows as RFC 4180 has them."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise BadInput("The CSV body has no rows")
    try:
        with np.errstate(over="ignore"):
            return np.loadtxt(
                lines, np.float32, delimiter=",", quotechar='"', comments=None, ndmin=2
            )
    except (ValueError, OverflowError) as error:
        hint = "" if policy == "present" or _is_numeric(lines[0]) else _HEADER_HINT
        raise BadInput(f"The CSV body must hold rows of numbers: {error}{hint}") from None


_HEADER_HINT = (
    ". If the first row is a header, send text/csv; header=present, or set BYOC_CSV_HEADER"
)


def _is_numeric(line: str) -> bool:
    try:
        [float(cell.strip().strip('"')) for cell in line.split(",")]
    except ValueError:
        return False
    return True


def decode_npy(data: Data, _media_type: MediaType) -> Array:
    """A view on the body: nothing is copied, and no object is built from it."""
    stream = io.BytesIO(data[:_NPY_HEAD])
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran, dtype = _NPY_READERS[version](stream)
    except Exception as error:  # noqa: BLE001 - a forged header is parsed as Python text inside
        raise BadInput(f"The body is not a .npy file: {error}") from None
    if dtype.hasobject:
        raise BadInput("The .npy file holds pickled objects, which are never loaded; send numbers")
    if dtype.kind not in NUMBERS:
        raise BadInput(f"The .npy file holds {dtype}; send numbers")
    count = 1
    for extent in shape:
        count *= extent
    offset = stream.tell()
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(data) - offset:
        raise BadInput(f"The .npy file announces {shape} of {dtype} and has another size")
    flat = np.frombuffer(data, dtype, count, offset) if count else np.empty(0, dtype)
    try:
        return flat.reshape(shape, order="F" if fortran else "C")
    except (
        ValueError,
        OverflowError,
    ) as error:  # too many axes, or one too long beside an empty one
        raise BadInput(f"The .npy file's shape is none: {error}") from None


_NPY_HEAD = 16 * 1024
_NPY_READERS: dict[tuple[int, int], Callable[[io.BytesIO], tuple[Any, bool, Any]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _utf8(data: Data, media_type: MediaType) -> bytes | memoryview:
    if media_type.charset.lower() in {"utf-8", "utf8", "us-ascii"}:
        return memoryview(data)
    return _text(data, media_type).encode()


def _text(data: Data, media_type: MediaType) -> str:
    return text_of(bytes(data[:]), media_type)


def text_of(data: bytes, media_type: MediaType) -> str:
    """The text in `data` by its charset; not by any codec that Python happens to have."""
    charset = media_type.charset.lower()
    if charset not in CHARSETS:
        raise BadInput(f"Charset {charset[:40]!r} is none of {', '.join(sorted(CHARSETS))}")
    try:
        return data.decode(charset)
    except ValueError as error:
        raise BadInput(f"The body is not text in {charset}: {error}") from None


# ── encoders ──


def encode_json(document: object) -> bytes:
    """Lists, numbers, text, arrays; what JSON has no form for is a TypeError."""
    return _dump(document, _OPTIONS)


def _dump(document: object, options: int) -> bytes:
    try:
        return orjson.dumps(document, default=_plain, option=options)
    except orjson.JSONEncodeError as error:
        if isinstance(error.__cause__, NotAcceptable):
            raise error.__cause__ from None
        raise


def _plain(value: object) -> object:
    """Arrays that orjson refuses (not contiguous, complex) and scalars, as Python's own."""
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        is_long = value.dtype.itemsize > 8  # of which a list would hold numpy's own again
        return (value.astype(np.float64) if is_long else value).tolist()
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "c":
        raise NotAcceptable(f"JSON has no form for complex numbers; accept {media.NPY}")
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def encode_json_lines(rows: Iterable[object]) -> bytes:
    return b"".join(_dump(row, _OPTIONS | orjson.OPT_APPEND_NEWLINE) for row in rows)


def encode_csv(array: Array) -> bytes:
    """A line a row, each ended by a newline; a vector is a column."""
    if array.ndim > 2:
        raise NotAcceptable(
            f"The result has {array.ndim} dimensions and text/csv holds two; accept {media.JSON}"
        )
    table = array.reshape(-1, 1) if array.ndim < 2 else array
    return "".join(f"{','.join(row)}\n" for row in table.astype(np.str_)).encode()


def encode_npy(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
