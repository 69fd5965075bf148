"""Writing one checkpoint, in the background on every rank, with messages on a group of its own.

Files into step-N.incomplete → all ranks report what they wrote → rank 0 writes COMPLETE → rename
→ only then older ones are deleted. A kill at any instant leaves an older complete one.
"""

from __future__ import annotations

import logging
import os
import shutil
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import save

from sagemaker_byoc.training.library.checkpoint import folders, storage
from sagemaker_byoc.training.library.checkpoint.folders import CheckpointError, Marker, Written
from sagemaker_byoc.training.library.ranks import Ranks

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
    writer, files = storage.writer(folder)
    try:
        save(snapshot.shared, storage_writer=writer, process_group=ranks.group)
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
