"""Batches: several inputs joined into one, and one output split into several.

Inputs are arrays, tensors, or tuples or dicts of them. An input can be joined with others if it has
rows: at least two dimensions, of which the first counts them. (A vector cannot: the model does not
know that three vectors of 4 are one of 12.)

A compiled model compiles again, or captures a CUDA graph again, for each new number of rows. With
declared sizes, rows are therefore filled up to the next size by repeating the last row: the model
might not accept a row of zeros. More rows than the largest size are run in parts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np

from sagemaker_byoc.serving.worker.formats.values import torch_if_loaded

T = TypeVar("T")
Call = Callable[[Any], Any]


class BatchError(Exception):
    """The output does not have one row for each row of the input."""


def key_of(value: Any) -> Hashable | None:
    """Return a key that is equal for inputs that can run together; None for one that runs alone."""
    if isinstance(value, tuple):
        return _common("tuple", range(len(value)), value)
    if isinstance(value, dict):
        return _common("dict", value.keys(), tuple(value.values()))
    if not _is_array(value) or value.ndim < 2:
        return None
    device = "" if isinstance(value, np.ndarray) else str(value.device)
    return (type(value).__name__, str(value.dtype), tuple(value.shape[1:]), device)


def _common(kind: str, names: Any, values: Sequence[Any]) -> Hashable | None:
    keys = [key_of(value) for value in values]
    if not keys or None in keys or len({rows_of(value) for value in values}) != 1:
        return None
    return (kind, tuple(names), tuple(keys))


def _is_array(value: object) -> bool:
    torch = torch_if_loaded()
    return isinstance(value, np.ndarray) or (torch is not None and isinstance(value, torch.Tensor))


def rows_of(value: Any) -> int:
    if isinstance(value, tuple):
        return rows_of(value[0])
    if isinstance(value, dict):
        return rows_of(next(iter(value.values())))
    return int(value.shape[0])


def portions(group: Sequence[T], most: int, rows: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield portions of the group in order, none with more than `most` rows unless a single member
    has them."""
    portion: list[T] = []
    count = 0
    for member in group:
        own = rows(member) if len(group) > 1 else 1
        if portion and count + own > most:
            yield portion
            portion, count = [], 0
        portion.append(member)
        count += own
    yield portion


def join(values: Sequence[Any]) -> Any:
    """Return inputs of equal key joined one after the other."""
    first = values[0]
    if isinstance(first, tuple):
        return tuple(join(column) for column in zip(*values, strict=True))
    if isinstance(first, dict):
        return {name: join([value[name] for value in values]) for name in first}
    if isinstance(first, np.ndarray):
        return np.concatenate(values)
    if isinstance(first, list):  # of outputs: one entry per row
        return [entry for value in values for entry in value]
    return torch_if_loaded().cat(values)


def split(value: Any, sizes: Sequence[int]) -> list[Any]:
    """Return the rows of an output per input; raise BatchError if they do not add up."""
    if isinstance(value, tuple):
        columns = [split(entry, sizes) for entry in value]
        return [tuple(column[index] for column in columns) for index in range(len(sizes))]
    if isinstance(value, dict):
        parts = {name: split(entry, sizes) for name, entry in value.items()}
        return [{name: part[index] for name, part in parts.items()} for index in range(len(sizes))]
    ends = list(accumulate(sizes))
    if not (isinstance(value, list) or (_is_array(value) and value.ndim > 0)):
        raise BatchError(f"predict_fn returned {type(value).__name__} for a batch")
    if len(value) != ends[-1]:
        raise BatchError(f"predict_fn returned {len(value)} rows for a batch of {ends[-1]}")
    return [value[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def run(call: Call, data: Any, sizes: Sequence[int]) -> Any:
    """Run `call` on data with any number of rows; it only sees batches of `sizes`, which rise.

    Raise BatchError if the output does not have a row for each row. Data without rows are passed on
    as they are.
    """
    if key_of(data) is None or rows_of(data) == 0:
        return call(data)
    count = rows_of(data)
    if count in sizes:
        return call(data)
    results = []
    for start, end in _parts(count, sizes[-1]):
        size = next(size for size in sizes if size >= end - start)
        rows = [*range(start, end), *[end - 1] * (size - (end - start))]
        result = call(take(data, rows))
        results.append(split(result, [end - start, size - (end - start)])[0])
    return join(results) if len(results) > 1 else results[0]


def warm_up(call: Call, example: Any, sizes: Sequence[int]) -> None:
    """Call once per size, with the rows of `example` repeated."""
    if key_of(example) is None or rows_of(example) == 0:
        raise BatchError(
            "example_input has no rows: give what predict_fn takes, an array or a tensor of at "
            "least two dimensions, or a tuple or dict of them"
        )
    count = rows_of(example)
    for size in sizes:
        call(take(example, [row % count for row in range(size)]))


def take(value: Any, rows: list[int]) -> Any:
    """Return these rows, in this order."""
    if isinstance(value, tuple):
        return tuple(take(column, rows) for column in value)
    if isinstance(value, dict):
        return {name: take(column, rows) for name, column in value.items()}
    return value[rows]


def _parts(count: int, most: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, most):
        yield start, min(start + most, count)
