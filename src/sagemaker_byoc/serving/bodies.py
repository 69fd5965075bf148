"""Request and reply bodies passed between processes: small ones as bytes, large ones in sealed
memory files.

Standard library only.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Self, TypeAlias

INLINE = 64 * 1024
"""Bodies above this size travel as a memory file, which is mapped and not copied."""
BUNDLE = 16 * 2**20
"""Bytes that many small bodies together may have in the file they share."""
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

Data: TypeAlias = "bytes | mmap.mmap"


class BodyError(Exception):
    """A memory file does not have the size that its sender announced."""


class Body:
    """An immutable body; its memory file is closed when nothing refers to it any more."""

    __slots__ = ("data", "descriptor", "size")

    def __init__(self, data: bytes = b"", *, descriptor: int | None = None, size: int = 0) -> None:
        self.data = data
        self.descriptor = descriptor
        self.size = len(data) if descriptor is None else size

    @classmethod
    def of(cls, data: bytes) -> Body:
        """Return a body with `data`, moved into a memory file if it is large."""
        if len(data) <= INLINE:
            return cls(data)
        return cls.filed(data)

    @classmethod
    def filed(cls, data: bytes) -> Body:
        """Return a body with `data` in a memory file, however small it is."""
        descriptor = _new_file()
        _write_all(descriptor, data)
        return _sealed(descriptor, len(data))

    def announced(self, size: int) -> Self:
        """Return this body after checking that its file has the announced size."""
        assert self.descriptor is not None
        if os.fstat(self.descriptor).st_size < size:
            raise BodyError("memory file is shorter than announced")
        self.size = size
        return self

    def view(self) -> Data:
        """Return the bytes; for a memory file, a private mapping that the receiver may write to."""
        if self.descriptor is None:
            return self.data
        return mmap.mmap(self.descriptor, self.size, access=mmap.ACCESS_COPY)

    def piece(self, start: int, size: int) -> bytes:
        """Return some of the bytes without loading the rest."""
        if self.descriptor is None:
            return self.data[start : start + size]
        return os.pread(self.descriptor, min(size, self.size - start), start)

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        if self.descriptor is not None:
            self.close()


class Collector:
    """Collect a body of unknown size; move it into a memory file when it grows large."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self._descriptor: int | None = None

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self._descriptor is None:
            self._parts.append(part)
            if self.size <= INLINE:
                return
            self._descriptor = _new_file()
            part = b"".join(self._parts)
            self._parts.clear()
        _write_all(self._descriptor, part)

    def body(self) -> Body:
        """Return what was collected and empty the collector."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return Body(b"".join(self._parts))
        return _sealed(descriptor, self.size)

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def read_bundle(body: Body) -> bytes:
    """Return the content of a file that many small bodies share, and close it."""
    assert body.descriptor is not None
    try:
        size = os.fstat(body.descriptor).st_size
        if size > BUNDLE:
            raise BodyError(f"{size} bytes of small bodies")
        return os.pread(body.descriptor, size, 0)
    finally:
        body.close()


def _new_file() -> int:
    return os.memfd_create("body", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _sealed(descriptor: int, size: int) -> Body:
    # Without the seal, a peer that shrinks the file would kill the process that reads the mapping.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return Body(descriptor=descriptor, size=size)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
