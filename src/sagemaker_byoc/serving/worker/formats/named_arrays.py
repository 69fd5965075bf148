"""Bodies that hold several arrays by name: .npz, safetensors and, if the user has installed
pyarrow, the tables of Arrow and Parquet.

Nothing here unpickles. Decoders raise BadInput for whatever a caller may send, and nothing else.
"""

from __future__ import annotations

import importlib
import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
import orjson

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.bodies import Data
from sagemaker_byoc.serving.error_replies import BadInput, NotAcceptable
from sagemaker_byoc.serving.worker.formats.codecs import decode_npy
from sagemaker_byoc.serving.worker.formats.values import CELLS, NUMBERS, Array

Named: TypeAlias = "dict[str, Array]"

UNPACKED = 256 * 2**20
"""Bytes that an .npz may unpack to: a few kilobytes of it can announce any number."""
PACKINGS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Compressions that can be unpacked in steps of a chosen size."""
MEMBERS = 1024
"""Arrays in an .npz, each of which costs more to open than to read."""
_ENTRY = b"PK\x01\x02"
"""Begins each line of a zip file's table of contents."""
SPARSE = frozenset({"format", "shape", "data"})
"""Members of all that scipy.sparse.save_npz writes."""
SPARSE_PARTS = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "coo": ("data", "row", "col"),
    "dia": ("data", "offsets"),
}
HEADER = 2**20
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BOOL": "?",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
}
"""Types of safetensors; numpy has no bfloat16."""
NAMES = {np.dtype(text): name for name, text in DTYPES.items()}


def decode_npz(data: Data, *, kinds: str = NUMBERS) -> Any:
    """Return the arrays of a zip file, compressed or not; for scipy's, the sparse matrix."""
    try:
        if data[:].count(_ENTRY) > MEMBERS:
            raise BadInput(f"The .npz file holds more than {MEMBERS} arrays")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _arrays(archive, kinds)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise BadInput(f"The body is not a .npz file: {error}") from None
    except (NotImplementedError, RuntimeError) as error:  # encrypted, or packed in a way unknown
        raise BadInput(f"The .npz file can't be read: {error}") from None


def _arrays(archive: zipfile.ZipFile, kinds: str) -> Any:
    entries = archive.infolist()
    if not {entry.compress_type for entry in entries} <= PACKINGS:
        raise BadInput("The .npz file uses a compression that numpy does not write")
    if sum(entry.file_size for entry in entries) > UNPACKED:
        raise BadInput(f"The .npz file unpacks to more than {UNPACKED} bytes")
    names = {entry.filename.removesuffix(".npy") for entry in entries}
    is_sparse = names >= SPARSE
    read = {
        entry.filename.removesuffix(".npy"): decode_npy(
            _read(archive, entry), kinds=NUMBERS + "SU" if is_sparse else kinds
        )
        for entry in entries
    }
    return _sparse(read) if is_sparse else read


def _sparse(read: Named) -> Any:
    """Return the matrix that scipy.sparse.save_npz wrote, its indices checked."""
    try:
        sparse: Any = importlib.import_module("scipy.sparse")  # only for those who send it
    except ImportError:
        raise BadInput(
            "The .npz file holds a sparse matrix of scipy's, which is not installed: send arrays, "
            "or install scipy where the model is served"
        ) from None
    form, shape = str(read["format"].astype(np.str_)), tuple(int(n) for n in read["shape"])
    suffix = "array" if "_is_array" in read else "matrix"
    try:
        parts = [read[name] for name in SPARSE_PARTS[form]]
        inner = (parts[0], tuple(parts[1:])) if form == "coo" else tuple(parts)
        matrix = getattr(sparse, f"{form}_{suffix}")(inner, shape=shape)
        if hasattr(matrix, "check_format"):
            matrix.check_format(full_check=True)  # unchecked, an index may lead out of the memory
    except (LookupError, ValueError, TypeError, OverflowError) as error:
        raise BadInput(f"The .npz file is not a sparse matrix of scipy's: {error}") from None
    return matrix


def dense(matrix: Any) -> Array:
    """Return a sparse matrix as a tensor's array."""
    if math.prod(matrix.shape) > CELLS:
        raise BadInput(f"The matrix has more than {CELLS} numbers; a tensor holds all of them")
    whole: Array = matrix.toarray()
    return whole


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Read only as many bytes as announced: a plain read unpacks a gigabyte before it checks."""
    with archive.open(entry) as member:
        return member.read(entry.file_size)


def encode_npz(arrays: Mapping[str, Array]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **dict(arrays))
    return stream.getvalue()


def decode_safetensors(data: Data) -> Named:
    """Return views of the body: nothing is copied."""
    try:
        header, start = _header(data)
        return {name: _tensor(data, start, entry) for name, entry in header.items()}
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise BadInput(f"The body is not safetensors: {error}") from None


def _header(data: Data) -> tuple[dict[str, Any], int]:
    """Return the description of the tensors, and the offset of their first byte."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(HEADER, len(data) - 8):
        raise ValueError("its header is truncated")
    header = orjson.loads(data[8 : 8 + size])
    if not isinstance(header, dict):
        raise TypeError("its header is not an object")
    header.pop("__metadata__", None)
    spans = [entry["data_offsets"] for entry in header.values()]
    if sum(end - begin for begin, end in spans) > len(data) - 8 - size:
        raise ValueError("its tensors overlap")  # and each may be copied once it is decoded
    return header, 8 + size


def _tensor(data: Data, start: int, entry: Mapping[str, Any]) -> Array:
    shape, (begin, end) = entry["shape"], entry["data_offsets"]
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"{str(entry['dtype'])[:20]} is not one of {', '.join(DTYPES)}")
    dtype = np.dtype(DTYPES[entry["dtype"]])
    numbers = [begin, end, *shape]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a shape or an offset is not a number")
    if end - begin != math.prod(shape) * dtype.itemsize or start + end > len(data):
        raise ValueError("a tensor's size does not fit its shape")
    count = math.prod(shape)
    flat = np.frombuffer(data, dtype, count, start + begin) if count else np.empty(0, dtype)
    return flat.reshape(shape)


def encode_safetensors(arrays: Mapping[str, Array]) -> bytes:
    """Write the arrays, each little-endian and contiguous, as the format requires."""
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    position = 0
    for name, array in arrays.items():
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        if plain.dtype not in NAMES:
            raise NotAcceptable(f"safetensors has no form for {array.dtype}; accept {media.NPY}")
        part = plain.tobytes()
        offsets = [position, position + len(part)]
        dtype, shape = NAMES[plain.dtype], list(array.shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        parts.append(part)
        position += len(part)
    index = orjson.dumps(header)
    index += b" " * (-len(index) % 8)  # aligned, as others write it
    return b"".join([len(index).to_bytes(8, "little"), index, *parts])


# ── tables ──

TABLES = (media.ARROW_STREAM, media.ARROW_FILE, media.PARQUET)


def has_pyarrow() -> bool:
    return find_spec("pyarrow") is not None


def decode_table(data: Data, kind: str) -> Array:
    """Return a table of numbers as a matrix: its columns in order, in the type that holds all of
    them, with NaN for nulls; one column of lists of equal length is a matrix too."""
    import pyarrow as pa  # noqa: PLC0415 - only for those who send tables

    try:
        return _matrix(_read_table(pa.py_buffer(data), kind))
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
            return _matrix_of_lists(column.combine_chunks(), kind.list_size)
        if not (_is_number(kind) or pa.types.is_boolean(kind)):
            raise ValueError(f"column {name[:80]!r} is {kind}, not numbers")
        columns.append(_table_column(column))
    return np.stack(columns, axis=1)


def _table_column(column: Any) -> Array:
    import pyarrow as pa  # noqa: PLC0415 - as above

    if column.null_count and not pa.types.is_floating(column.type):
        column = column.cast(pa.float64(), safe=False)
    numbers: Array = column.to_numpy()
    return numbers


def _matrix_of_lists(column: Any, width: int) -> Array:
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


def _read_table(buffer: Any, kind: str) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - as above
    import pyarrow.parquet as pq  # noqa: PLC0415

    if kind == media.PARQUET:
        with pq.ParquetFile(pa.BufferReader(buffer)) as file:
            if file.metadata.num_rows * file.metadata.num_columns > CELLS:
                raise ValueError(f"it has more than {CELLS} cells")
            return file.read()
    open_source = pa.ipc.open_stream if kind == media.ARROW_STREAM else pa.ipc.open_file
    with open_source(buffer) as reader:
        return reader.read_all()


def encode_table(columns: Mapping[str, Array], kind: str) -> bytes:
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


def table_columns(arrays: Mapping[str, Array]) -> dict[str, Array]:
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
