"""How the store waits for the disk, or does not."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable


def write_all(file: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of it; raise OSError if the disk is full."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


class Disk:
    """A disk that keeps what was synced. Without `waits`, no call waits: the operating system
    writes when it likes, and a power cut may lose or tear what was acknowledged."""

    def __init__(self, *, waits: bool = True) -> None:
        self.waits = waits
        self._sync_data: Callable[[int], object] = getattr(os, "fdatasync", os.fsync)

    def sync(self, file: int) -> None:
        """Wait until the bytes of an open file are on the disk."""
        if self.waits:
            self._sync_data(file)

    def sync_new(self, file: int, folder: str) -> None:
        """Wait until a new file, its name in `folder` included, is on the disk."""
        if self.waits:
            os.fsync(file)
            self.sync_folder(folder)

    def sync_folder(self, path: str) -> None:
        if self.waits:
            folder = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def sync_all(self, file: int) -> None:
        """Wait until everything on the file system of an open file is on the disk."""
        if not self.waits:
            return
        if sys.platform == "linux":
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syncfs(file) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        else:
            os.sync()
