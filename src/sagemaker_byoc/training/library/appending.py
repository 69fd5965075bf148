"""Lines at the end of a file, in one write: neither a kill nor a full disk leaves half a line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class Appender:
    """A file that stays open between writes; made, with its folder, at the first one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def write(self, data: bytes) -> None:
        """Raises OSError, and leaves the file as it was then."""
        if self._descriptor is None:
            self._descriptor = _open(self.path)
        _write(self._descriptor, data)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def append(path: Path, data: bytes) -> None:
    """As Appender, for now and then."""
    descriptor = _open(path)
    try:
        _write(descriptor, data)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, _FLAGS, 0o644)


def _write(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    if written < len(data):  # as much as the disk took
        os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_END) - written)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
