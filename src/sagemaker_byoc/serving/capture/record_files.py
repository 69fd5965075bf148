"""The files of captured records: whole lines only, whole files only under their final name.

    FOLDER/.writing/2022.02.14.17.25-06-123-UUID.jsonl.open     being written, locked by its writer
    FOLDER/2022/02/14/17/25-06-123-UUID.jsonl                   complete

A writer that was killed leaves its open file without the lock: the next one cuts half a line off
its end and completes it. Standard library only.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sagemaker_byoc.contract.capture import file_name, hour_folder

OPEN_FOLDER = ".writing"
OPEN = ".open"
_TAIL = 1 << 20
"""Bytes read at once in the search for the end of the last line."""


class OpenFile:
    """The file being written, used by one thread. `size` counts whole lines; the file has nothing
    after them."""

    def __init__(self, folder: Path, time: datetime) -> None:
        """Open the file; raise OSError if it cannot be written."""
        self.hour = hour_folder(time)
        name = f"{self.hour.replace('/', '.')}.{file_name(time, str(uuid.uuid4()))}{OPEN}"
        self._folder = folder
        self._path = folder / OPEN_FOLDER / name
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o644)
        self.size = 0
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # a file system without locks
            self._path.unlink()
            self.abandon()
            raise

    def append(self, pieces: Iterable[bytes]) -> None:
        """Append pieces that together are whole lines. If they cannot be written or made, restore
        the file and raise the error."""
        size = self.size
        try:
            for piece in pieces:
                size += self._write(piece)
        except BaseException:
            os.ftruncate(self._descriptor, self.size)
            os.lseek(self._descriptor, self.size, os.SEEK_SET)
            raise
        self.size = size

    def _write(self, data: bytes) -> int:
        written = os.write(self._descriptor, data)
        while written < len(data):
            written += os.write(self._descriptor, memoryview(data)[written:])
        return written

    def finish(self) -> None:
        """Complete the file; raise OSError and leave it to `recover` if that fails."""
        try:
            _complete(self._folder, self._path, self._descriptor, self.size)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Leave the file as a killed writer would. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@dataclass(slots=True)
class Recovered:
    """Files that former writers left open."""

    files: int = 0
    cut: int = 0
    """Bytes of incomplete lines that were cut off."""


def recover(folder: Path) -> Recovered:
    """Complete the open files that no process has locked; raise OSError."""
    found = Recovered()
    for path in sorted((folder / OPEN_FOLDER).glob(f"*{OPEN}")):
        with suppress(FileNotFoundError):  # another recovers too
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                with suppress(BlockingIOError):  # its writer lives
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    before = os.fstat(descriptor).st_size
                    size = _whole_lines(descriptor, before)
                    _complete(folder, path, descriptor, size)
                    found.files += size > 0
                    found.cut += before - size
            finally:
                os.close(descriptor)
    return found


def _whole_lines(descriptor: int, size: int) -> int:
    """Return where the last whole line ends."""
    end = size
    while end > 0:
        start = max(0, end - _TAIL)
        position = os.pread(descriptor, end - start, start).rfind(b"\n")
        if position >= 0:
            return start + position + 1
        end = start
    return 0


def _complete(folder: Path, path: Path, descriptor: int, size: int) -> None:
    """Move the file to its final name, or remove it if it has no line."""
    if size == 0:
        path.unlink()
        return
    os.ftruncate(descriptor, size)
    os.fsync(descriptor)
    *hour, name = path.name.removesuffix(OPEN).split(".", 4)
    target = folder.joinpath(*hour, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    parent = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
