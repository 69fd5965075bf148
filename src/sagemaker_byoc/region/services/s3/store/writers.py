"""The writer of an object: in memory while it is small, else in a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sagemaker_byoc.region.services.s3.store.bucket_files import unlink
from sagemaker_byoc.region.services.s3.store.changes import Put
from sagemaker_byoc.region.services.s3.store.disk import write_all
from sagemaker_byoc.region.services.s3.store.objects import Attributes, Condition, ObjectInfo

SMALL = 64 << 10
"""Bytes up to which an object is written into the journal."""


class Writer:
    """An object that is being written, by one thread at a time. It ends with `commit` or `abort`;
    a context aborts what was not committed."""

    def __init__(
        self,
        path: str,
        attributes: Attributes,
        make: Callable[[Writer, Condition | None], Put],
        run: Callable[[Put], ObjectInfo],
    ) -> None:
        self.attributes = attributes
        self.size = 0
        self.path = path
        self.data: bytearray | None = bytearray()
        """The bytes, as long as there is no file."""
        self._file = -1
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._make = make
        self._run = run
        self._open = True

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    @property
    def md5(self) -> bytes:
        """The MD5 of what was written so far."""
        return self._md5.digest()

    @property
    def file(self) -> int:
        """The descriptor of a file with the bytes, which is made now if there was none."""
        if self.data is not None:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.open(self.path, flags, 0o644)
            data, self.data = self.data, None
            write_all(self._file, data)
        return self._file

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.count(data)
        if self.data is not None and self.size <= SMALL:
            self.data += data
        else:
            write_all(self.file, data)

    def count(self, data: bytes | bytearray | memoryview) -> None:
        """Count bytes that are in the file already."""
        self._md5.update(data)
        self.size += len(data)

    def take(self, source: Path) -> bool:
        """Make `source` the file itself; return False if that can't be: it is on another file
        system, or in place already, and then it must not change.

        It keeps its own name too, so that nothing is lost if the commit fails.
        """
        linked = f"{self.path}.linked"
        try:
            if source.stat().st_nlink > 1:
                return False
            os.link(source, linked)
            file = os.open(linked, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            unlink(linked)
            return False
        if self.data is None:
            os.close(self._file)
        Path(linked).replace(self.path)
        self.data, self._file = None, file
        return True

    def change(self, condition: Condition | None = None) -> Put:
        """Return the change that puts the object in place, after a sync of its file."""
        if not self._open:
            raise ValueError("the writer has ended")
        if not self.attributes.etag:
            self.attributes = replace(self.attributes, etag=self._md5.hexdigest())
        return self._make(self, condition)

    def commit(self, condition: Condition | None = None) -> ObjectInfo:
        """Put the object in place, durably; raise what `condition` raises about the current one."""
        try:
            return self._run(self.change(condition))
        finally:
            self.abort()

    def abort(self) -> None:
        """Remove the file, unless the writer has ended."""
        if self._open:
            self._open = False
            if self.data is None:
                os.close(self._file)
                unlink(self.path)
