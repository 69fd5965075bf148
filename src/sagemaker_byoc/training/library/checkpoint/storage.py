"""One checkpoint on disk: written in the background on every rank, read without free pickle.

Files into step-N.incomplete → all ranks report what they wrote → rank 0 writes COMPLETE → rename
→ only then older ones are deleted. A kill at any instant leaves an older complete one. The format
is DCP's own, with checksums taken while writing.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import shutil
import uuid
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_saver import save

from sagemaker_byoc.training.library.checkpoint import folders
from sagemaker_byoc.training.library.checkpoint.folders import CheckpointError, Marker, Written
from sagemaker_byoc.training.library.ranks import Ranks

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


logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state at one step, out of reach of the steps that follow."""

    step: int
    shared: dict[str, Any]
    own: bytes


def own_file(rank: int) -> str:
    return f"rank-{rank}.pt"


def write(root: Path, snapshot: Snapshot, ranks: Ranks) -> None:
    """CheckpointError on every rank if it failed on any; then nothing of it is left behind."""
    step = snapshot.step
    folder = folders.incomplete_folder(root, step)
    try:
        reports = _all_do(ranks, lambda: _write_own(folder, snapshot, ranks.rank))
        reports += _all_do(ranks, lambda: _write_shared(folder, snapshot, ranks))
        files = {name: file for report in reports for name, file in report.items()}
        _all_do(ranks, lambda: _complete(folder, step, files, ranks))
        _all_do(ranks, lambda: folders.clear_way(root, step))
        _all_do(ranks, lambda: folders.finish(root, step))
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)  # its bytes may be what the disk is full of
        left = folders.steps_in(root)
        intact = f"step {left[0]} is the newest that is complete" if left else "there is no other"
        raise CheckpointError(f"checkpoint {step} was not written: {error}; {intact}") from error
    if ranks.rank == 0:
        megabytes = sum(file.size for file in files.values()) / 1e6
        logger.info("checkpoint %d complete: %d files, %.1f MB", step, len(files), megabytes)


def _all_do(ranks: Ranks, action: Callable[[], T]) -> list[T]:
    """What `action` gave on every rank; CheckpointError on all of them if it failed on any."""
    result: T | None = None
    failure: str | None = None
    try:
        result = action()
    except Exception as error:  # noqa: BLE001 - told to every rank, and raised there
        failure = _reason(error)
    answers = ranks.gather((failure, result))
    failures = [f"rank {rank}: {text}" for rank, (text, _) in enumerate(answers) if text]
    if failures:
        raise CheckpointError("; ".join(failures[:3]))
    return [value for _, value in answers]  # type: ignore[misc]  # no failure, so all are T


def _write_own(folder: Path, snapshot: Snapshot, rank: int) -> dict[str, Written]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / own_file(rank), "wb") as file:
        file.write(snapshot.own)
        file.flush()
        os.fsync(file.fileno())
    return {own_file(rank): Written(len(snapshot.own), zlib.crc32(snapshot.own))}


def _write_shared(folder: Path, snapshot: Snapshot, ranks: Ranks) -> dict[str, Written]:
    dcp_writer, files = writer(folder)
    try:
        save(snapshot.shared, storage_writer=dcp_writer, process_group=ranks.group)
    except CheckpointException as error:  # a BaseException, with every failing rank's own
        raise files.failure or CheckpointError(causes(error)) from error
    return files.written


def _complete(folder: Path, step: int, files: dict[str, Written], ranks: Ranks) -> None:
    if ranks.rank == 0:
        folders.write_marker(folder, Marker(step, uuid.uuid4().hex, ranks.count, files))


def causes(error: CheckpointException) -> str:
    """The failing ranks' own words, without DCP's tracebacks."""
    found = (cause for cause, _ in error.failures.values())
    return "; ".join(f"{type(cause).__name__}: {cause}" for cause in found)


def _reason(error: Exception) -> str:
    """One line."""
    if isinstance(error, CheckpointError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f" ({error.filename})" if error.filename else "")
    return f"{type(error).__name__}: {error}"
