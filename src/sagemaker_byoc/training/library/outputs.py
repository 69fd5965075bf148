"""What a program writes: a folder made with a hint, lines appended in one write.

A line is in the file whole or not at all, whether the program is killed or the disk is full.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.variables import BASE_DIR

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class Appender:
    """A file that stays open between writes; the first one makes it and its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def write(self, data: bytes) -> None:
        """Append `data`; raise OSError, leaving the file as it was."""
        if self._descriptor is None:
            self._descriptor = _open(self.path)
        _write(self._descriptor, data)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def append(path: Path, data: bytes) -> None:
    """Append `data` to a file that is closed between writes."""
    descriptor = _open(path)
    try:
        _write(descriptor, data)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder of the job; raise ContractError with a hint how to choose another."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ContractError(
            where=str(folder),
            what=f"can't be made ({error.strerror})",
            hint=f"Outside SageMaker set {BASE_DIR} to a folder of yours, or give folder=",
        ) from error


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, _FLAGS, 0o644)


def _write(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    if written < len(data):  # the disk is full
        os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_END) - written)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
