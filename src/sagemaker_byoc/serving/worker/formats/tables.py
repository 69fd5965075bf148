"""Bodies that are tables, Arrow and Parquet, if the user has installed pyarrow.

A table of numbers is a matrix: its columns in order, in the type that holds all of them, with NaN
for nulls; one column of lists of equal length is a matrix too. Decoders raise BadInput for whatever
a caller may send.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.bodies import Data
from sagemaker_byoc.serving.error_replies import BadInput, NotAcceptable
from sagemaker_byoc.serving.worker.formats.values import CELLS, Array

TYPES = (media.ARROW_STREAM, media.ARROW_FILE, media.PARQUET)


def is_installed() -> bool:
    return find_spec("pyarrow") is not None


def decode(data: Data, kind: str) -> Array:
    """Return rows and columns."""
    import pyarrow as pa  # noqa: PLC0415 - only for those who send tables

    try:
        return _matrix(_READERS[kind](pa.py_buffer(data)))
    except (pa.ArrowException, OSError, ValueError, TypeError, MemoryError) as error:
        raise BadInput(f"The body is not a table that can be read as {kind}: {error}") from None


def _matrix(table: Any) -> Array:
    import pyarrow as pa  # noqa: PLC0415 - as above

    if table.num_rows * table.num_columns > CELLS:
        raise ValueError(f"it has more than {CELLS} cells")
    if table.num_columns == 0:
        raise ValueError("it has no columns")
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_fixed_size_list(kind) and table.num_columns == 1:
            return _lists(column.combine_chunks(), kind.list_size)
        if not (_is_number(kind) or pa.types.is_boolean(kind)):
            raise ValueError(f"column {name[:80]!r} is {kind}, not numbers")
        columns.append(_column(column))
    return np.stack(columns, axis=1)


def _column(column: Any) -> Array:
    import pyarrow as pa  # noqa: PLC0415 - as above

    if column.null_count and not pa.types.is_floating(column.type):
        column = column.cast(pa.float64(), safe=False)
    numbers: Array = column.to_numpy()
    return numbers


def _lists(column: Any, width: int) -> Array:
    if column.null_count or not _is_number(column.type.value_type):
        raise ValueError(f"its column is {column.type}, with nulls or not of numbers")
    if len(column) * width > CELLS:
        raise ValueError(f"it has more than {CELLS} cells")
    flat = column.flatten()
    matrix: Array = flat.to_numpy(zero_copy_only=False).reshape(len(column), width)
    return matrix


def _is_number(kind: Any) -> bool:
    import pyarrow as pa  # noqa: PLC0415 - as above

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _read_stream(buffer: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - as above

    with pa.ipc.open_stream(buffer) as reader:
        return reader.read_all()


def _read_file(buffer: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - as above

    with pa.ipc.open_file(buffer) as reader:
        return reader.read_all()


def _read_parquet(buffer: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - as above
    import pyarrow.parquet as pq  # noqa: PLC0415

    with pq.ParquetFile(pa.BufferReader(buffer)) as file:
        if file.metadata.num_rows * file.metadata.num_columns > CELLS:
            raise ValueError(f"it has more than {CELLS} cells")
        return file.read()


_READERS: Mapping[str, Callable[[Any], Any]] = {
    media.ARROW_STREAM: _read_stream,
    media.ARROW_FILE: _read_file,
    media.PARQUET: _read_parquet,
}


# ── encoders ──


def encode(columns: Mapping[str, Array], kind: str) -> bytes:
    """Write a table of these columns, each of one dimension."""
    import pyarrow as pa  # noqa: PLC0415 - as above
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        table = pa.table({name: np.atleast_1d(array) for name, array in columns.items()})
    except (pa.ArrowException, TypeError) as error:
        raise NotAcceptable(f"The result is not a table: {error}; accept {media.JSON}") from None
    sink = pa.BufferOutputStream()
    if kind == media.PARQUET:
        pq.write_table(table, sink)
    else:
        open_sink = pa.ipc.new_stream if kind == media.ARROW_STREAM else pa.ipc.new_file
        with open_sink(sink, table.schema) as writer:
            writer.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def columns_of(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the columns: vectors as they are, and the columns of a matrix, named by name and
    number."""
    columns: dict[str, Array] = {}
    for name, array in arrays.items():
        if array.ndim > 2:
            raise NotAcceptable(
                f"The result has {array.ndim} dimensions and a table two; accept {media.JSON}"
            )
        if array.ndim < 2:
            columns[name] = array
        else:
            columns |= {f"{name}_{index}": array[:, index] for index in range(array.shape[1])}
    return columns
