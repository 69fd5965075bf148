"""One object on its way in: hashed while it is written, seen by nobody until it is whole."""

# Paths are strings here: of a small object's time, Path would take a part.
# ruff: noqa: PTH105
from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from sagemaker_byoc.region.services.s3.store.objects import Attributes, Condition, ObjectInfo

_Commit: TypeAlias = "Callable[[Writer, Condition | None], ObjectInfo]"


class Writer:
    """For one thread at a time. Ends with `commit` or `abort`; as a context, what was not committed
    is gone."""

    def __init__(self, folder: str, attributes: Attributes, commit: _Commit) -> None:
        self.attributes = attributes
        self.size = 0
        self.path = f"{folder}/{uuid.uuid4().hex}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.file = os.open(self.path, flags, 0o644)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._commit = commit
        self._open = True

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    @property
    def md5(self) -> bytes:
        """Of what was written so far."""
        return self._md5.digest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.count(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self.file, view) :]

    def count(self, data: bytes | bytearray | memoryview) -> None:
        """Bytes that are in the file already."""
        self._md5.update(data)
        self.size += len(data)

    def take(self, source: Path) -> bool:
        """Make `source` the file itself; False where it lies on another file system.

        It keeps its own name too, so that nothing is lost where the commit fails.
        """
        linked = f"{self.path}.linked"
        try:
            os.link(source, linked)
            file = os.open(linked, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            Path(linked).unlink(missing_ok=True)
            return False
        os.replace(linked, self.path)
        os.close(self.file)
        self.file = file
        return True

    def commit(self, condition: Condition | None = None) -> ObjectInfo:
        """Sync it and put it in place; raises what `condition` raises about what is there now."""
        if not self._open:
            raise ValueError("the writer has ended")
        if not self.attributes.etag:
            self.attributes = replace(self.attributes, etag=self._md5.hexdigest())
        try:
            return self._commit(self, condition)
        finally:
            self.abort()

    def abort(self) -> None:
        """Does nothing once it has ended."""
        if self._open:
            self._open = False
            os.close(self.file)
            Path(self.path).unlink(missing_ok=True)
