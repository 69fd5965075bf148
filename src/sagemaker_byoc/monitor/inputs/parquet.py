"""Parquet, if pyarrow is installed: a reader that this project does not depend on."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.monitor.errors import DataError
from sagemaker_byoc.monitor.inputs.documents import UnreadableError, cell, named
from sagemaker_byoc.monitor.inputs.layout import Block
from sagemaker_byoc.monitor.inputs.plain import plain
from sagemaker_byoc.monitor.inputs.streams import Unread

_ROWS = 8192
_INDEX = "__index_level_"
"""pandas' index, if it is a column of the file."""


def blocks(name: str, stream: BinaryIO, unread: Unread) -> Iterator[Block]:
    """Raise RequestError without pyarrow. A file that is cut off is counted."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - the user's to install
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise RequestError(
            f"{name} is Parquet, and the Python package pyarrow is missing",
            hint="Install it (pip install pyarrow), or save the data as CSV",
        ) from error
    try:
        whole = stream if stream.seekable() else io.BytesIO(stream.read())
        if not whole.read(1):
            return  # `_SUCCESS`, which Spark leaves beside its parts
        whole.seek(0)
        file = pq.ParquetFile(whole)
        names = [each for each in file.schema_arrow.names if not each.startswith(_INDEX)]
        twice = next((each for each in names if names.count(each) > 1), None)
        if twice is not None:
            raise DataError(f"{name} has the column {twice!r} twice", hint="Name each column once")
        for batch in file.iter_batches(batch_size=_ROWS, columns=names):
            unread.lines += batch.num_rows
            yield _block(batch)
    except (pa.ArrowException, OSError, UnreadableError) as error:
        unread.lines += 1
        unread.add("a Parquet file that is damaged or cut off", name, str(error)[:120])


def _block(batch: Any) -> Block:
    """Structs and lists become columns of their own, as in JSON."""
    rows = None
    if _is_nested(batch):
        rows = [
            named(plain({name: _text(value) for name, value in row.items()}))
            for row in batch.to_pylist()
        ]
    if rows is None:
        columns = [[cell(plain(_text(value))) for value in each.to_pylist()] for each in batch]
        return Block(tuple(batch.schema.names), columns)
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    return Block(names, [[row.get(name, "") for row in rows] for name in names])


def _text(value: Any) -> Any:
    """Bytes that are no text, such as an image, cost nothing but themselves."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _is_nested(batch: Any) -> bool:
    return any(each.type.num_fields for each in batch.schema)
