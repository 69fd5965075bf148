"""The folders of checkpoints: names, the COMPLETE marker, which are valid, which are deleted.

SageMaker copies /opt/ml/checkpoints to S3 all the time: files while they are written, deletions
too. So a checkpoint counts only by its marker, which names every file with its size and checksum.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.files import write_atomically

logger = logging.getLogger(__name__)

MARKER = "COMPLETE"
FORMAT = 1
COMPLETE_NAME = re.compile(r"step-(\d+)")
INCOMPLETE = ".incomplete"
CHUNK_BYTES = 1 << 22


class CheckpointError(Exception):
    """A checkpoint that can't be written or read; says what is left intact."""


@dataclass(frozen=True, slots=True)
class Written:
    """One file of a checkpoint."""

    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Marker:
    """What COMPLETE holds."""

    step: int
    id: str
    """The attempt that wrote it: two hosts may have restored two runs' step N."""
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
    """The steps that have a folder by their final name, valid or not; newest first."""
    names = (path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else ()
    found = (COMPLETE_NAME.fullmatch(name) for name in names)
    return sorted((int(match[1]) for match in found if match), reverse=True)


def valid_markers(root: Path) -> dict[int, Marker]:
    """The checkpoints whose files are all there and of the right size; others are logged."""
    valid = {}
    for step in steps_in(root):
        folder = complete_folder(root, step)
        try:
            valid[step] = checked_marker(folder, step)
        except CheckpointError as error:
            logger.warning("skipping the checkpoint %s: %s", folder, error)
    return valid


def checked_marker(folder: Path, step: int) -> Marker:
    """The marker of `folder`; CheckpointError if the folder doesn't hold what the marker says."""
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
    """The first file whose bytes are not those that were written; reads one `share` of n."""
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
    """The crc32 of a file."""
    value = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            value = zlib.crc32(chunk, value)
    return value


def clear_way(root: Path, step: int) -> None:
    """Delete a folder of the final name that an earlier run left and this one did not resume from.

    Every rank must be through with this before any of them calls `finish`.
    """
    delete(complete_folder(root, step))


def finish(root: Path, step: int) -> None:
    """Give the incomplete folder its final name; any number of ranks of a host may try at once."""
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
    """What a killed run left behind."""
    for folder in root.glob(f"step-*{INCOMPLETE}"):
        logger.info("deleting %s, which an earlier run did not finish", folder)
        delete(folder)


def retain(root: Path, newest: int, good: Iterable[int], keep: int) -> list[int]:
    """Delete what is older than the `keep` newest good ones, of which `newest` is one."""
    kept = set(sorted({*good, newest}, reverse=True)[:keep]) | {newest}
    for step in steps_in(root):
        if step < newest and step not in kept:
            delete(complete_folder(root, step))
    return sorted(kept)


def write_marker(folder: Path, marker: Marker) -> None:
    write_atomically(folder / MARKER, marker.to_bytes())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Names survive a power cut only after this; not every file system allows it."""
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
