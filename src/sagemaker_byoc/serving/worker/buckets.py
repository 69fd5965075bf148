"""Batches of a few sizes only, each of which was run before the first request came.

A compiled model compiles again, or captures a CUDA graph again, for each new number of rows. Rows
are therefore filled up to the next declared size, by the last row once more: a row of zeros might
be none that the model can take. More rows than the largest size are run in parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sagemaker_byoc.serving.worker import batches

Call = Callable[[Any], Any]


def run(call: Call, data: Any, sizes: Sequence[int]) -> Any:
    """`call` for data of any number of rows; it sees only batches of these sizes, in rising order.

    BatchError where the output has not a row for each row. What has no rows is passed on as it is.
    """
    if batches.key_of(data) is None or batches.rows_of(data) == 0:
        return call(data)
    count = batches.rows_of(data)
    if count in sizes:
        return call(data)
    results = []
    for start, end in _parts(count, sizes[-1]):
        size = next(size for size in sizes if size >= end - start)
        rows = [*range(start, end), *[end - 1] * (size - (end - start))]
        result = call(take(data, rows))
        results.append(batches.split(result, [end - start, size - (end - start)])[0])
    return batches.join(results) if len(results) > 1 else results[0]


def warm_up(call: Call, example: Any, sizes: Sequence[int]) -> None:
    """One call a size, with the rows of `example` again and again."""
    if batches.key_of(example) is None or batches.rows_of(example) == 0:
        raise batches.BatchError(
            "example_input has no rows: give what predict_fn takes, an array or a tensor of at "
            "least two dimensions, or a tuple or dict of them"
        )
    count = batches.rows_of(example)
    for size in sizes:
        call(take(example, [row % count for row in range(size)]))


def take(value: Any, rows: list[int]) -> Any:
    """These rows, in this order."""
    if isinstance(value, tuple):
        return tuple(take(column, rows) for column in value)
    if isinstance(value, dict):
        return {name: take(column, rows) for name, column in value.items()}
    return value[rows]


def _parts(count: int, most: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, most):
        yield start, min(start + most, count)
