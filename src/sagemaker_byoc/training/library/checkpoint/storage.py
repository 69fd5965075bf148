"""Checkpoints on disk: folders and their COMPLETE markers, written in the background on every rank.

Files into step-N.incomplete → all ranks report what they wrote → rank 0 writes COMPLETE → rename
→ only then older ones are deleted. A kill at any instant leaves an older complete one. SageMaker
copies /opt/ml/checkpoints to S3 all the time: files while they are written, deletions too. So a
checkpoint counts only by its marker, which names every file with its size and checksum. The format
is DCP's own, with checksums taken while writing; nothing is unpickled freely.
"""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import re
import shutil
import uuid
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping
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

from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.training.library.ranks import Ranks

logger = logging.getLogger(__name__)

T = TypeVar("T")

MARKER = "COMPLETE"
FORMAT = 1
COMPLETE_NAME = re.compile(r"step-(\d+)")
INCOMPLETE = ".incomplete"
CHUNK_BYTES = 1 << 22
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


class CheckpointError(Exception):
    """A checkpoint that can't be written or read; says what is left intact."""


@dataclass(frozen=True, slots=True)
class Written:
    """One file of a checkpoint."""

    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Marker:
    """The content of COMPLETE."""

    step: int
    id: str
    """Identifies the attempt that wrote it: two hosts may have restored step N of two runs."""
    world_size: int
    files: Mapping[str, Written]

    def to_bytes(self) -> bytes:
        files = {name: [file.size, file.crc32] for name, file in sorted(self.files.items())}
        document = {
            "format": FORMAT,
            "step": self.step,
            "id": self.id,
            "world_size": self.world_size,
            "files": files,
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Marker:
        """Raise ValueError, KeyError or TypeError if `data` is not a marker."""
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}, not {FORMAT}")
        files = {name: Written(*numbers) for name, numbers in document["files"].items()}
        return cls(document["step"], document["id"], document["world_size"], files)


def complete_folder(root: Path, step: int) -> Path:
    return root / f"step-{step}"


def incomplete_folder(root: Path, step: int) -> Path:
    return root / f"step-{step}{INCOMPLETE}"


def steps_in(root: Path) -> list[int]:
    """Return the steps whose folder has its final name, valid or not; newest first."""
    names = (path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else ()
    found = (COMPLETE_NAME.fullmatch(name) for name in names)
    return sorted((int(match[1]) for match in found if match), reverse=True)


def valid_markers(root: Path) -> dict[int, Marker]:
    """Return the checkpoints whose files all exist with the right size; log the others."""
    valid = {}
    for step in steps_in(root):
        folder = complete_folder(root, step)
        try:
            valid[step] = checked_marker(folder, step)
        except CheckpointError as error:
            logger.warning("skipping the checkpoint %s: %s", folder, error)
    return valid


def checked_marker(folder: Path, step: int) -> Marker:
    """Return the marker of `folder`; raise CheckpointError if the folder differs from it."""
    try:
        marker = Marker.from_bytes((folder / MARKER).read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"it has no {MARKER} marker, so it was never finished") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"its {MARKER} marker can't be read ({error!r})") from error
    if marker.step != step:
        raise CheckpointError(f"its {MARKER} marker is that of step {marker.step}")
    for name, file in marker.files.items():
        size = _size(folder / name)
        if size != file.size:
            has = "is missing" if size is None else f"has {size} bytes"
            raise CheckpointError(f"{name} {has}; the marker says {file.size} bytes")
    return marker


def damage(folder: Path, marker: Marker, *, share: tuple[int, int] = (0, 1)) -> str | None:
    """Describe the first file that has changed since it was written; read one `share` of n."""
    part, parts = share
    for name in sorted(marker.files)[part::parts]:
        try:
            found = checksum(folder / name)
        except OSError as error:
            return f"{name} can't be read ({error.strerror})"
        if found != marker.files[name].crc32:
            return f"{name} has the right size but not the bytes that were written"
    return None


def checksum(path: Path) -> int:
    """Return the crc32 of a file."""
    value = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            value = zlib.crc32(chunk, value)
    return value


def clear_way(root: Path, step: int) -> None:
    """Delete a folder of the final name that an earlier run left and this one did not resume from.

    All ranks must have done so before any of them calls `finish`.
    """
    delete(complete_folder(root, step))


def finish(root: Path, step: int) -> None:
    """Give the incomplete folder its final name; the ranks of a host may try at the same time."""
    target = complete_folder(root, step)
    try:
        incomplete_folder(root, step).rename(target)
    except FileNotFoundError:
        if not target.is_dir():
            raise
    sync_folder(root)


def delete(folder: Path) -> None:
    """Delete a checkpoint, its marker first: a half-deleted one must not look valid."""
    (folder / MARKER).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def delete_incomplete(root: Path) -> None:
    """Delete what a killed run left."""
    for folder in root.glob(f"step-*{INCOMPLETE}"):
        logger.info("deleting %s, which an earlier run did not finish", folder)
        delete(folder)


def retain(root: Path, newest: int, good: Iterable[int], keep: int) -> list[int]:
    """Delete what is older than the `keep` newest good ones; return these. `newest` is good."""
    kept = set(sorted({*good, newest}, reverse=True)[:keep]) | {newest}
    for step in steps_in(root):
        if step < newest and step not in kept:
            delete(complete_folder(root, step))
    return sorted(kept)


def write_marker(folder: Path, marker: Marker) -> None:
    write_atomically(folder / MARKER, marker.to_bytes())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make names survive a power cut; not every file system can do it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        logger.debug("fsync of %s: %s", folder, error)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


class SummedFiles(FileSystem):
    """A file system that records size and checksum of each file written, and the first error."""

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
    """A file whose checksum is that of the data given, not of what a read would return."""

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
    """Return DCP's writer into `folder`, and the record of what it writes."""
    files = SummedFiles()
    storage = FileSystemWriter(folder)
    storage.fs = files
    return storage, files


class Reader(FileSystemReader):
    """DCP's reader, which refuses an index that names other classes than DCP's own."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:  # noqa: ARG002 - DCP's signature
        with open(Path(self.path) / INDEX, "rb") as file:
            metadata: Metadata = _IndexUnpickler(file).load()
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _IndexUnpickler(pickle.Unpickler):
    """Reader of DCP's index, a pickle, that builds DCP's data only and runs no code."""

    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_dtype or (module, name) in ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a checkpoint's index")


class LoadPlanner(DefaultLoadPlanner):
    """DCP's planner, which reads small values as data and runs no code from them."""

    def load_bytes(self, read_item: ReadItem, value: IO[bytes]) -> None:
        plain = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), plain)
        plain.seek(0)
        super().load_bytes(read_item, plain)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of the state at one step, which later steps do not change."""

    step: int
    shared: dict[str, Any]
    own: bytes


def own_file(rank: int) -> str:
    return f"rank-{rank}.pt"


def write(root: Path, snapshot: Snapshot, ranks: Ranks) -> None:
    """Write a checkpoint; raise CheckpointError on every rank, and leave no file, if any failed."""
    step = snapshot.step
    folder = incomplete_folder(root, step)
    try:
        reports = _all_do(ranks, lambda: _write_own(folder, snapshot, ranks.rank))
        reports += _all_do(ranks, lambda: _write_shared(folder, snapshot, ranks))
        files = {name: file for report in reports for name, file in report.items()}
        _all_do(ranks, lambda: _complete(folder, step, files, ranks))
        _all_do(ranks, lambda: clear_way(root, step))
        _all_do(ranks, lambda: finish(root, step))
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)  # its bytes may be what the disk is full of
        left = steps_in(root)
        intact = f"step {left[0]} is the newest that is complete" if left else "there is no other"
        raise CheckpointError(f"checkpoint {step} was not written: {error}; {intact}") from error
    if ranks.rank == 0:
        megabytes = sum(file.size for file in files.values()) / 1e6
        logger.info("checkpoint %d complete: %d files, %.1f MB", step, len(files), megabytes)


def _all_do(ranks: Ranks, action: Callable[[], T]) -> list[T]:
    """Return each rank's result of `action`; raise CheckpointError on all if it failed on any."""
    result: T | None = None
    failure: str | None = None
    try:
        result = action()
    except Exception as error:  # noqa: BLE001 - sent to every rank, and raised there
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
        write_marker(folder, Marker(step, uuid.uuid4().hex, ranks.count, files))


def causes(error: CheckpointException) -> str:
    """Return the failing ranks' messages, without DCP's tracebacks."""
    found = (cause for cause, _ in error.failures.values())
    return "; ".join(f"{type(cause).__name__}: {cause}" for cause in found)


def _reason(error: Exception) -> str:
    """Describe an error in one line."""
    if isinstance(error, CheckpointError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f" ({error.filename})" if error.filename else "")
    return f"{type(error).__name__}: {error}"
