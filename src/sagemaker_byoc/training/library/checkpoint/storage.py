"""DCP's own file format, with checksums taken while writing and no free pickle while reading."""

from __future__ import annotations

import io
import os
import pickle
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem

from sagemaker_byoc.training.library.checkpoint.folders import Written

INDEX = ".metadata"
DCP = "torch.distributed.checkpoint"
ALLOWED = frozenset(
    {(f"{DCP}.metadata", name) for name in (
        "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "TensorProperties",
        "ChunkStorageMetadata", "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING",
    )}
    | {
        (f"{DCP}.filesystem", "_StorageInfo"),
        ("torch.serialization", "_get_layout"),
        ("torch", "Size"),
        ("pathlib", "PosixPath"),
        ("collections", "OrderedDict"),
    }
)  # fmt: skip


class SummedFiles(FileSystem):
    """Knows the size and checksum of every file written through it, and the first failure."""

    def __init__(self) -> None:
        self.written: dict[str, Written] = {}
        self.failure: OSError | None = None

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Generator[Any, None, None]:
        if mode != "wb":
            with super().create_stream(path, mode) as stream:
                yield stream
            return
        try:
            with _Summed(self, Path(path)) as summed:
                yield summed
        finally:
            self.written[Path(path).name] = Written(summed.size, summed.crc32)

    def rename(self, path: str | os.PathLike[str], new_path: str | os.PathLike[str]) -> None:
        super().rename(path, new_path)
        self.written[Path(new_path).name] = self.written.pop(Path(path).name)


class _Summed(io.BufferedWriter):
    """The checksum is of what was meant to be written, not of what a read would return."""

    def __init__(self, files: SummedFiles, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self.files = files
        self.size = 0
        self.crc32 = 0

    def write(self, data: Any, /) -> int:
        self.crc32 = zlib.crc32(data, self.crc32)
        try:
            count = super().write(data)
        except OSError as error:
            # torch's archive writer turns it into an error about its own bookkeeping.
            self.files.failure = self.files.failure or error
            raise
        self.size += count
        return count


def writer(folder: Path) -> tuple[FileSystemWriter, SummedFiles]:
    """DCP's writer into `folder`, and the account of what it wrote."""
    files = SummedFiles()
    storage = FileSystemWriter(folder)
    storage.fs = files
    return storage, files


class Reader(FileSystemReader):
    """Refuses an index that names anything but DCP's own classes."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:  # noqa: ARG002 - DCP's signature
        with open(Path(self.path) / INDEX, "rb") as file:
            metadata: Metadata = _IndexUnpickler(file).load()
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _IndexUnpickler(pickle.Unpickler):
    """DCP's index is a pickle, which could be a program; this one can only build DCP's data."""

    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_dtype or (module, name) in ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a checkpoint's index")


class LoadPlanner(DefaultLoadPlanner):
    """Reads small values as `own_state` does: data, no code."""

    def load_bytes(self, read_item: ReadItem, value: IO[bytes]) -> None:
        plain = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), plain)
        plain.seek(0)
        super().load_bytes(read_item, plain)
