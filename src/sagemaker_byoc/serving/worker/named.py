"""Bodies that hold several arrays by name: .npz and safetensors. Nothing here unpickles.

Decoders raise BadInput for whatever a caller may send, and nothing else.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import orjson

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.bodies import Data
from sagemaker_byoc.serving.errors import BadInput, NotAcceptable
from sagemaker_byoc.serving.media import MediaType
from sagemaker_byoc.serving.worker.codecs import Array, decode_npy

Named: TypeAlias = "dict[str, Array]"

UNPACKED = 256 * 2**20
"""Bytes that an .npz may unpack to: a few kilobytes of it can announce any number."""
PACKINGS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Those that unpack in steps of a size that we say."""
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
"""Of safetensors; numpy has no bfloat16."""
NAMES = {np.dtype(text): name for name, text in DTYPES.items()}


def decode_npz(data: Data, media_type: MediaType) -> Named:
    """The arrays of a zip file, compressed or not."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if not {entry.compress_type for entry in entries} <= PACKINGS:
                raise BadInput("The .npz file is packed in a way that numpy does not write")
            if sum(entry.file_size for entry in entries) > UNPACKED:
                raise BadInput(f"The .npz file unpacks to more than {UNPACKED} bytes")
            return {
                entry.filename.removesuffix(".npy"): decode_npy(_read(archive, entry), media_type)
                for entry in entries
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise BadInput(f"The body is not a .npz file: {error}") from None
    except (NotImplementedError, RuntimeError) as error:  # encrypted, or packed in a way unknown
        raise BadInput(f"The .npz file can't be read: {error}") from None


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """As many bytes as announced: a plain read unpacks a gigabyte before it looks."""
    with archive.open(entry) as member:
        return member.read(entry.file_size)


def encode_npz(arrays: Mapping[str, Array]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **dict(arrays))
    return stream.getvalue()


def decode_safetensors(data: Data, _media_type: MediaType) -> Named:
    """Views on the body: nothing is copied."""
    try:
        header, start = _header(data)
        return {name: _tensor(data, start, entry) for name, entry in header.items()}
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise BadInput(f"The body is not safetensors: {error}") from None


def _header(data: Data) -> tuple[dict[str, Any], int]:
    """What the tensors are, and where the first byte of them is."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(HEADER, len(data) - 8):
        raise ValueError("its header is not all there")
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
        raise ValueError(f"{str(entry['dtype'])[:20]} is none of {', '.join(DTYPES)}")
    dtype = np.dtype(DTYPES[entry["dtype"]])
    numbers = [begin, end, *shape]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a shape or an offset is no number")
    if end - begin != math.prod(shape) * dtype.itemsize or start + end > len(data):
        raise ValueError("a tensor's size does not fit its shape")
    count = math.prod(shape)
    flat = np.frombuffer(data, dtype, count, start + begin) if count else np.empty(0, dtype)
    return flat.reshape(shape)


def encode_safetensors(arrays: Mapping[str, Array]) -> bytes:
    """Little-endian and in one piece each, as the format has it."""
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
