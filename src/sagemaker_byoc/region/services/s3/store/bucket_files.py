"""The files of one bucket: how an object is written, and how bytes and attributes change at once.

Bytes are in `data/…`, attributes in `attributes/…/NAME%MTIME`. MTIME is the modification time of
the bytes in nanoseconds: *the data file determines which attributes are its own*. A put writes and
syncs both files in another folder. It moves the attributes in place, where nobody reads them yet,
and then the data. That rename is the commit. A crash before it leaves the old object and a stray
file of attributes; a crash after it leaves the new object and a stray file of the old one's.
"""

# Paths are strings here: Path would take a part of the time of a small object.
# ruff: noqa: PTH102, PTH103, PTH105, PTH106, PTH108, PTH112, PTH113, PTH116, PTH120
from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.region.services.s3.store.keys import FOLDER_ASIDE, OBJECT_ASIDE, encode, join
from sagemaker_byoc.region.services.s3.store.objects import Attributes, Condition, ObjectInfo

_ATTEMPTS = 20


class Clock:
    """Modification times that are unique in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        """Return nanoseconds in whole microseconds: some file systems keep no more."""
        with self._lock:
            self._last = max(time.time_ns() // 1000 * 1000, self._last + 1000)
            return self._last


class Files:
    """The files of a bucket. A change of names needs `lock`; a read does not."""

    def __init__(self, data: Path, attributes: Path, *, fold: bool) -> None:
        self.root = str(data)
        self._attributes = str(attributes)
        self._fold = fold
        self.lock = threading.Lock()

    def find(self, key: str) -> str | None:
        """Return the path of the object's bytes."""
        parts = encode(key, fold=self._fold)
        path = f"{self.root}/{'/'.join(parts)}"
        if os.path.isfile(path):
            return path
        folder = self.root
        for part in parts[:-1]:
            for name in (part, part + FOLDER_ASIDE):
                if os.path.isdir(f"{folder}/{name}"):
                    folder = f"{folder}/{name}"
                    break
            else:
                return None
        for name in (parts[-1], parts[-1] + OBJECT_ASIDE):
            if os.path.isfile(f"{folder}/{name}"):
                return f"{folder}/{name}"
        return None

    def read(self, key: str) -> tuple[int, os.stat_result, Attributes, str] | None:
        """Return an open file, its status, attributes and path; the caller closes it."""
        for _ in range(_ATTEMPTS):
            path = self.find(key)
            if path is None:
                return None
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except (FileNotFoundError, IsADirectoryError):
                continue
            status = os.fstat(file)
            attributes = self.attributes_of(key, path, status)
            if attributes is not None:
                return file, status, attributes, path
            os.close(file)
        raise OSError(f"{key!r} was replaced {_ATTEMPTS} times while it was opened")

    def status(self, key: str, path: str) -> tuple[os.stat_result, Attributes] | None:
        """Return status and attributes, or None if it was deleted meanwhile."""
        for _ in range(_ATTEMPTS):
            try:
                status = os.stat(path)
            except FileNotFoundError:
                return None
            attributes = self.attributes_of(key, path, status)
            if attributes is not None:
                return status, attributes
        return None

    def attributes_of(self, key: str, path: str, status: os.stat_result) -> Attributes | None:
        """Return the attributes of the file with this `status`; None if it was replaced."""
        name = self._attributes_path(key, status.st_mtime_ns)
        try:
            with open(name, "rb", buffering=0) as file:
                return Attributes.from_json(file.read())
        except (FileNotFoundError, NotADirectoryError):
            try:
                now = os.stat(path)
            except FileNotFoundError:
                return None
            same = (now.st_ino, now.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
            return Attributes.of_foreign(status) if same else None
        except (ValueError, TypeError):
            return Attributes.of_foreign(status)

    def replace(self, key: str, data: str, attributes: str, mtime: int) -> None:
        """Move both files in place. The caller holds the lock."""
        target = self._target(key)
        try:
            before: int | None = os.stat(target).st_mtime_ns
        except FileNotFoundError:
            before = None
        name = self._attributes_path(key, mtime)
        try:
            os.replace(attributes, name)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(name), exist_ok=True)
            os.replace(attributes, name)
        os.replace(data, target)
        if before is not None and before != mtime:
            _unlink(self._attributes_path(key, before))

    def rewrite(self, key: str, status: os.stat_result, attributes: Attributes) -> None:
        """Replace the attributes of what is there. The caller holds the lock."""
        path = Path(self._attributes_path(key, status.st_mtime_ns))
        write_atomically(path, attributes.to_json())

    def remove(self, key: str) -> None:
        """Remove bytes and attributes. The caller holds the lock."""
        path = self.find(key)
        if path is None:
            return
        mtime = os.stat(path).st_mtime_ns
        os.unlink(path)
        attributes = self._attributes_path(key, mtime)
        _unlink(attributes)
        _prune(path, self.root)
        _prune(attributes, self._attributes)

    def sweep(self) -> int:
        """Remove attributes without data; return how many there were."""
        swept = 0
        for attributes in folders.files(Path(self._attributes)):
            start, _, mtime = attributes.name.rpartition("%")
            if not start:
                continue  # the bucket's own
            above = attributes.relative_to(self._attributes).parts[:-1]
            with self.lock:
                path = self.find(join([*above, start]))
                if path is None or f"{os.stat(path).st_mtime_ns:x}" != mtime:
                    _unlink(str(attributes))
                    swept += 1
        return swept

    def _target(self, key: str) -> str:
        """Return the path of a put, making its folders."""
        parts = encode(key, fold=self._fold)
        folder = self.root
        if len(parts) > 1:
            folder = f"{self.root}/{'/'.join(parts[:-1])}"
            if not os.path.isdir(folder):
                folder = self._folders(parts[:-1])
        plain = f"{folder}/{parts[-1]}"
        aside = plain + OBJECT_ASIDE
        return aside if os.path.isfile(aside) or os.path.isdir(plain) else plain

    def _folders(self, parts: list[str]) -> str:
        folder = self.root
        for part in parts:
            plain = f"{folder}/{part}"
            aside = plain + FOLDER_ASIDE
            taken = os.path.isdir(aside) or os.path.isfile(plain)
            folder = aside if taken else plain
            if not os.path.isdir(folder):
                os.mkdir(folder)
        return folder

    def _attributes_path(self, key: str, mtime: int) -> str:
        """Return the path; no key ends like this, so that files and folders can't collide."""
        parts = encode(key, fold=self._fold)
        return f"{self._attributes}/{'/'.join(parts)}%{mtime:x}"


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _prune(path: str, root: str) -> None:
    """Remove the folders above `path` that are empty, up to `root`."""
    folder = os.path.dirname(path)
    while len(folder) > len(root):
        try:
            os.rmdir(folder)
        except OSError:
            return
        folder = os.path.dirname(folder)


_Commit: TypeAlias = "Callable[[Writer, Condition | None], ObjectInfo]"


class Writer:
    """An object that is being written, by one thread at a time. It ends with `commit` or `abort`;
    a context aborts what was not committed."""

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
        """The MD5 of what was written so far."""
        return self._md5.digest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.count(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self.file, view) :]

    def count(self, data: bytes | bytearray | memoryview) -> None:
        """Count bytes that are in the file already."""
        self._md5.update(data)
        self.size += len(data)

    def take(self, source: Path) -> bool:
        """Make `source` the file itself; return False if it is on another file system.

        It keeps its own name too, so that nothing is lost if the commit fails.
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
        """Sync it and put it in place; raise what `condition` raises about the current object."""
        if not self._open:
            raise ValueError("the writer has ended")
        if not self.attributes.etag:
            self.attributes = replace(self.attributes, etag=self._md5.hexdigest())
        try:
            return self._commit(self, condition)
        finally:
            self.abort()

    def abort(self) -> None:
        """Remove the file, unless the writer has ended."""
        if self._open:
            self._open = False
            os.close(self.file)
            Path(self.path).unlink(missing_ok=True)
