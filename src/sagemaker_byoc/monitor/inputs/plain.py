"""Values of Python code as JSON would have them: numbers of any library stay numbers."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import date, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

import numpy as np

from sagemaker_byoc.monitor.inputs.documents import UnreadableError, cell

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
    """One level of unpacking. Raise UnreadableError."""
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
    """pandas: a frame as its rows; a series as a row, or as a list if its index has no names."""
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
