"""Bytes that lie in a file, for several threads at once; and files without a name to put them in.

A file without a name is gone with the process that holds it, however that ends.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from sagemaker_byoc.contract.errors import MachineError
from sagemaker_byoc.images.errors import HostileError
from sagemaker_byoc.images.tar import Source

CHUNK = 2**18
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""How such files start."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Who holds `file` closes it."""

    file: IO[bytes]
    start: int
    size: int

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` of the slice."""
        wanted = min(size, self.size - offset)
        data = os.pread(self.file.fileno(), wanted, self.start + offset) if wanted > 0 else b""
        if wanted > 0 and not data:
            raise HostileError("a file became shorter while it was read", hint="Run it again")
        return data

    def __iter__(self) -> Iterator[bytes]:
        offset = 0
        while offset < self.size:
            data = self.read(offset, CHUNK)
            yield data
            offset += len(data)

    def whole(self, limit: int, what: str) -> bytes:
        if self.size > limit:
            raise HostileError(f"{what} is over {limit >> 20} MiB", hint="Build the image anew")
        return b"".join(self)

    @property
    def digest(self) -> str:
        seen = hashlib.sha256()
        for data in self:
            seen.update(data)
        return f"sha256:{seen.hexdigest()}"


class Reader:
    """A slice as a stream that can pass over what nobody wants to see."""

    def __init__(self, content: Slice) -> None:
        self._content = content
        self.position = 0

    def read(self, size: int, /) -> bytes:
        data = self._content.read(self.position, size)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        self.position += size


@contextmanager
def scratch() -> Iterator[IO[bytes]]:
    """A file without a name, in TMPDIR. Raises MachineError where the disk is full."""
    try:
        with tempfile.TemporaryFile(prefix="byoc-push-") as file:
            yield file
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free >> 20
        raise MachineError(
            f"no room in {folder} for the image's layers: {free} MiB are free",
            hint="Make room, or set TMPDIR to a folder on a larger disk",
        ) from error


@contextmanager
def spooled(source: Source, digest: str = "") -> Iterator[Slice]:
    """All of a stream. Raises HostileError where its bytes have another digest than `digest`."""
    seen = hashlib.sha256()
    size = 0
    with scratch() as file:
        while data := source.read(2**20):
            file.write(data)
            seen.update(data)
            size += len(data)
        file.flush()
        if digest and f"sha256:{seen.hexdigest()}" != digest:
            raise HostileError(f"what came as {digest} is something else", hint="Run it again")
        yield Slice(file, 0, size)
