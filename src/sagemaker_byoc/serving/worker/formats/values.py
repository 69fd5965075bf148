"""What handlers return, in simpler forms: tensors, arrays, tables and other objects as Python's
own.

The libraries that the objects come from are never imported here: a library that has not been
imported cannot have made a value, and pandas, polars and scipy are recognized by the methods of
their objects.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import fractions
import json
import math
import os
import sys
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from enum import Enum
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt
import orjson

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.error_replies import NotAcceptable

Array: TypeAlias = npt.NDArray[Any]
NUMBERS = "biufc"
_MISSING = object()
_NULLS = frozenset({"NaTType", "NAType"})
"""Types of pandas' two missing values, which cannot be compared."""
CELLS = 64 * 2**20
"""Most numbers of a dense array: a few kilobytes of Parquet or of a sparse matrix can announce any
number."""


def torch_if_loaded() -> Any:
    """Return the torch module, or None; a model without torch must not pay for its import."""
    return sys.modules.get("torch")


def plain(value: object) -> Any:
    """Return `value` with arrays for tensors, also inside lists, tuples and dicts."""
    torch = torch_if_loaded()
    if torch is None:
        return value
    if isinstance(value, torch.Tensor):
        return array_of(value)
    if isinstance(value, list):
        return value if _LEAVES.issuperset(map(type, value)) else [plain(entry) for entry in value]
    if isinstance(value, tuple):
        return tuple(plain(entry) for entry in value)
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return value


_LEAVES = frozenset({float, int, str, bool, type(None)})


def array_of(tensor: Any) -> Any:
    """Return a tensor's numbers in the nearest numpy type; a nested one as a list."""
    torch = torch_if_loaded()
    if tensor.is_nested:
        return [array_of(entry) for entry in tensor.unbind()]
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    try:
        return tensor.numpy(force=True)
    except TypeError:  # bfloat16, the kinds of float8 and half a complex number
        wide = torch.complex64 if tensor.dtype.is_complex else torch.float32
        return tensor.to(wide).numpy(force=True)


# ── one step towards JSON ──


def simpler(value: object) -> object:
    """Return `value` in a form nearer to JSON; raise TypeError if it has none."""
    for step in _STEPS:
        found = step(value)
        if found is not _MISSING:
            return found
    raise TypeError(f"{_type_name(value)} has no form in JSON")


def _type_name(value: object) -> str:
    kind = type(value)
    where = getattr(kind, "__module__", "builtins")  # a ctypes array's type has none
    module = "" if where == "builtins" else f"{where}."
    return f"an object of type {module}{kind.__qualname__}"


def _refused(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(
            "bytes have no form in JSON or CSV: decode them to text, encode them as base64, or "
            "return them from output_fn as the whole body"
        )
    if isinstance(value, complex):
        raise NotAcceptable(f"JSON has no form for complex numbers; accept {media.NPY}")
    if isinstance(value, dt.timedelta):
        raise TypeError("a timedelta has no form in JSON or CSV: return its total_seconds()")
    return _MISSING


def _tensor(value: object) -> object:
    torch = torch_if_loaded()
    is_tensor = torch is not None and isinstance(value, torch.Tensor)
    return array_of(value) if is_tensor else _MISSING


def _numpy(value: object) -> object:
    if not isinstance(value, np.ndarray | np.generic):
        return _MISSING
    if isinstance(value, np.ma.MaskedArray):
        return value.tolist()  # None for what is masked
    kind = value.dtype.kind
    if kind in _UNWRITTEN:
        return _refused(_UNWRITTEN[kind])
    if kind in "biuf":
        return _numbers(value)
    if kind == "M":
        return _datetimes(np.asarray(value))
    return value.item() if isinstance(value, np.generic) else value.tolist()


_UNWRITTEN: dict[str, object] = {"c": 1j, "m": dt.timedelta()}


def _numbers(value: Any) -> object:
    """Return numbers in a form that orjson takes: native, contiguous, at most 8 bytes wide."""
    if value.dtype.itemsize > 8:
        value = value.astype(np.float64)
    if value.ndim:
        return np.ascontiguousarray(value, value.dtype.newbyteorder("="))
    return _scalar_of(value) if value.dtype.kind == "f" else value.item()


def _scalar_of(value: Any) -> object:
    """Return a number of at most 8 bytes with the digits that its own type needs."""
    return orjson.loads(orjson.dumps(value.astype(f"f{value.dtype.itemsize}")[()], option=_NUMPY))


_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def _datetimes(array: Array) -> object:
    """Return datetimes as orjson writes them, and None for missing ones."""
    texts = np.full(array.shape, None, dtype=object)
    for index in np.argwhere(~np.isnat(array)):
        place = tuple(index)
        texts[place] = orjson.loads(orjson.dumps(array[place], option=_NUMPY))
    return texts.tolist() if array.ndim else texts.item()


def _table(value: object) -> object:
    """Return a data frame as records, a column as a list, a sparse matrix as a dense one."""
    if isinstance(value, type):
        return _MISSING
    if is_frame(value):
        return _records(value)
    for name in _LISTED:
        if hasattr(value, name):
            return getattr(value, name)()
    if _is_sparse(value):
        return _dense(value)
    return _MISSING


_LISTED = ("to_dicts", "to_pylist", "as_py", "to_list")
"""Methods of polars' tables, of pyarrow's tables, columns and scalars, and of polars' columns."""


def _records(frame: Any) -> object:
    if not frame.columns.is_unique:
        raise TypeError("the data frame has two columns of one name, so it has no form in JSON")
    return frame.to_dict(orient="records")


def is_frame(value: object) -> bool:
    """Return whether `value` is a data frame of pandas."""
    return all(hasattr(value, name) for name in ("to_dict", "columns", "iloc"))


def columns_of(value: Any) -> Sequence[object] | None:
    """Return the names of a table's columns (pandas, polars, pyarrow); None if it is not a
    table."""
    if is_frame(value) or hasattr(value, "to_dicts"):
        return value.columns  # type: ignore[no-any-return]
    return value.column_names if hasattr(value, "to_pylist") and hasattr(value, "schema") else None


def _is_sparse(value: object) -> bool:
    return all(hasattr(value, name) for name in ("toarray", "nnz", "shape"))


def _dense(value: Any) -> Any:
    if math.prod(value.shape) > CELLS:
        raise NotAcceptable(
            f"The result is sparse, and dense it would have more than {CELLS} numbers"
        )
    return value.toarray()


def _scalar(value: object) -> object:
    if type(value).__name__ in _NULLS:
        return None
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, fractions.Fraction):
        return float(value)
    return os.fspath(value) if isinstance(value, os.PathLike) else _as_text(value)


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, uuid.UUID | collections.UserString) else _MISSING


def _container(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        try:
            return sorted(value)
        except TypeError:
            return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {entry.name: getattr(value, entry.name) for entry in fields}
    return _MISSING


def _converted(value: object) -> object:
    """Return what the object converts itself to; AWS's encoder only asks for `tolist`."""
    if isinstance(value, type):
        return _MISSING
    for name in ("tolist", "model_dump"):  # the latter is pydantic's
        if hasattr(value, name):
            return getattr(value, name)()
    for name in _FIELDS:
        if hasattr(type(value), name):
            names = [getattr(entry, "name", entry) for entry in getattr(type(value), name)]
            return {entry: getattr(value, entry) for entry in names}
    if hasattr(value, "__array__"):
        return np.asarray(value)
    if isinstance(value, Collection):
        return list(value)
    return _MISSING


_FIELDS = ("__attrs_attrs__", "__struct_fields__", "__fields__")
"""Attributes in which classes of attrs, msgspec and pydantic 1 list their fields."""
_STEPS: tuple[Callable[[object], object], ...] = (
    *(_refused, _tensor, _numpy, _scalar),
    *(_table, _container, _converted),
)


# ── what orjson can't write ──


def to_json(document: object) -> bytes:
    """Write what orjson cannot: keys of other types, integers of any size, depth.

    It is written as json.dumps does, with NaN and the infinities as null.
    """
    try:
        return json.dumps(_tree(document), separators=(",", ":")).encode()
    except RecursionError:
        raise TypeError("the result is nested too deeply, or contains itself") from None


def _tree(value: object) -> object:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or (isinstance(value, str | int) and not isinstance(value, Enum)):
        return value
    if isinstance(value, dict):
        return _object(value)
    if isinstance(value, list | tuple):
        return [_tree(entry) for entry in value]
    found = simpler(value)
    if isinstance(found, np.ndarray) and found.dtype.kind in "biuf":
        return orjson.loads(orjson.dumps(found, option=_NUMPY))
    return _tree(found)


def _object(value: dict[Any, object]) -> dict[str, object]:
    written: dict[str, object] = {}
    for key, entry in value.items():
        name = _key(key)
        if name in written:
            raise TypeError(f"two keys are written {name[:80]!r} in JSON")
        written[name] = _tree(entry)
    return written


def _key(key: object) -> str:
    """Return a key as json.dumps writes it, or as text if json.dumps refuses its type."""
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, Enum):
        key = key.value
    if isinstance(key, str):
        return str(key)
    if key is None or isinstance(key, int | float):
        return json.dumps(key)
    if isinstance(key, dt.date | dt.time):
        return key.isoformat()
    if isinstance(key, uuid.UUID):
        return str(key)
    raise TypeError(f"a key of type {type(key).__name__} has no form in JSON")


# ── arrays and rows ──


def as_array(value: object) -> Array:
    """Return numbers or text as an array without objects in it.

    Raise NotAcceptable for what only JSON has a form for, TypeError for what has no form at all.
    """
    try:
        array = np.asarray(_dense(value) if _is_sparse(value) else _unmasked(plain(value)))
    except ValueError as error:
        raise NotAcceptable(f"The result is not an array: {error}; accept {media.JSON}") from None
    if not array.dtype.hasobject:
        return array
    name = type(value).__name__
    if array.ndim == 0 and not isinstance(value, dict | Collection):
        raise TypeError(f"a result of type {name} can't be an array")
    return _of_one_kind(array, name)


def _unmasked(value: Any) -> Any:
    """Return an array with None for masked values."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        return np.array(value.tolist(), dtype=object)
    return value


def _of_one_kind(array: Array, name: str) -> Array:
    cells = array.ravel().tolist()
    if array.ndim and all(isinstance(cell, str) for cell in cells):
        return np.array(cells, dtype=np.str_).reshape(array.shape)
    if array.ndim and all(is_missing(cell) or isinstance(cell, int | float) for cell in cells):
        numbers = [math.nan if is_missing(cell) else float(cell) for cell in cells]
        return np.asarray(numbers).reshape(array.shape)
    raise NotAcceptable(f"The result is a {name}, not an array; accept {media.JSON}")


def unsigned(document: Any, leaves: Sequence[object]) -> Array | None:
    """Return integers of which the largest need unsigned 64 bits; None if those do not suffice."""
    is_enough = all(isinstance(leaf, int) and 0 <= leaf < 2**64 for leaf in leaves)
    return np.asarray(document, dtype=np.uint64) if is_enough else None


def has_numbers(value: object) -> TypeGuard[Array]:
    """Return whether `value` is an array of numbers, none of which is masked."""
    return (
        isinstance(value, np.ndarray)
        and not isinstance(value, np.ma.MaskedArray)
        and value.dtype.kind in NUMBERS
    )


def is_missing(value: object) -> bool:
    """Return whether `value` stands for a cell without a value."""
    return value is None or type(value).__name__ in _NULLS


def rows_of(value: object) -> list[list[object]]:
    """Return a table's rows; for a vector each entry is a row, and for records their values."""
    value = _as_entries(plain(value))
    if isinstance(value, Mapping):
        raise NotAcceptable(f"The result is a {type(value).__name__}; accept {media.JSON}")
    if isinstance(value, _WHOLE) or not isinstance(value, Collection):
        return [[value]]
    if _has_fields(next(iter(value), None)):
        value = [simpler(entry) for entry in value]
    names = list(next(iter(value), ())) if _are_records(value) else []
    return [_row(entry, names) for entry in value]


def _has_fields(value: object) -> bool:
    """Return whether `value` is an object that is written as a JSON object."""
    names = ("__dataclass_fields__", "model_dump", *_FIELDS)
    return any(hasattr(type(value), name) for name in names)


_WHOLE = (str, bytes, bytearray, memoryview)


def _are_records(value: Collection[object]) -> bool:
    return isinstance(next(iter(value), None), Mapping)


def _as_entries(value: Any) -> Any:
    if _is_foreign_array(value):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        return simpler(value) if value.dtype.kind in "mM" else value.tolist()
    if isinstance(value, np.generic):
        return value if value.dtype.kind in NUMBERS else simpler(value)
    if is_frame(value):
        return _without_nan(value.to_dict(orient="tight")["data"])  # each column in its own type
    if _is_sparse(value):
        return _dense(value).tolist()
    if hasattr(value, "to_numpy") and hasattr(value, "tolist"):
        # pandas has NaN for the text that is missing.
        cells = value.tolist()
        kind = getattr(getattr(value, "dtype", None), "kind", "")
        return _without_nan(cells) if kind == "O" else cells
    return simpler(value) if any(hasattr(value, name) for name in _LISTED) else value


def _is_foreign_array(value: object) -> bool:
    """Return whether `value` is another library's array, such as JAX's or xarray's."""
    if isinstance(value, np.ndarray | np.generic) or not hasattr(type(value), "__array__"):
        return False
    return not any(hasattr(value, name) for name in (*_LISTED, "toarray", "iloc", "tolist"))


def _without_nan(cells: list[Any]) -> list[Any]:
    return [
        _without_nan(cell)
        if isinstance(cell, list)
        else None
        if isinstance(cell, float) and math.isnan(cell)
        else cell
        for cell in cells
    ]


def _row(entry: object, names: list[object]) -> list[object]:
    if isinstance(entry, Mapping):
        if entry.keys() != set(names):
            raise NotAcceptable(f"The result's records differ in their keys; accept {media.JSON}")
        return [entry[name] for name in names]
    if has_numbers(entry):
        return entry.astype(np.str_).tolist() if entry.ndim else [entry[()]]
    entry = _as_entries(entry)
    return list(entry) if isinstance(entry, list | tuple) else [entry]
