"""The files of one bucket: how an object is written, and how bytes and attributes change at once.

Bytes are in `data/…`, attributes in `attributes/…/NAME%MTIME`. MTIME is the modification time of
the bytes in nanoseconds: *the data file determines which attributes are its own*. A put writes the
attributes in place, where nobody reads them yet, and the bytes in another folder. Then it moves the
bytes in place: a reader sees the old object or the new one. A crash before the rename leaves the
old object and a stray file of attributes; the journal then repeats the put (see journal.py).
"""

# Paths are strings here: Path would take a part of the time of a small object.
# ruff: noqa: PTH102, PTH103, PTH105, PTH106, PTH108, PTH110, PTH112, PTH113, PTH116, PTH120
from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from stat import S_ISREG

from sagemaker_byoc.contract import folders
from sagemaker_byoc.region.services.s3.store.disk import write_all
from sagemaker_byoc.region.services.s3.store.keys import FOLDER_ASIDE, OBJECT_ASIDE, encode, join
from sagemaker_byoc.region.services.s3.store.objects import Attributes

_ATTEMPTS = 20
_MOST_KNOWN = 1000
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


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
    """The files of a bucket. One thread at a time changes names; a read may run beside it."""

    def __init__(self, data: Path, attributes: Path, *, fold: bool) -> None:
        self.root = str(data)
        self._attributes = str(attributes)
        self._fold = fold
        self._plain = {self.root}
        """Folders of keys that are there under their plain names; a look at each put is saved."""

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
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
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
            except (FileNotFoundError, NotADirectoryError):
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
            except (FileNotFoundError, NotADirectoryError):
                return None
            same = (now.st_ino, now.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
            return Attributes.of_foreign(status) if same else None
        except (ValueError, TypeError):
            return Attributes.of_foreign(status)

    def current(self, key: str) -> tuple[str, os.stat_result] | None:
        """Return path and status of the object's bytes."""
        path = self._plain_path(key)
        try:
            status = os.stat(path)
            if S_ISREG(status.st_mode):
                return path, status
        except (FileNotFoundError, NotADirectoryError):
            if os.path.dirname(path) in self._plain and not os.path.exists(path + OBJECT_ASIDE):
                return None
        found = self.find(key)
        if found is None:
            return None
        try:
            return found, os.stat(found)
        except FileNotFoundError:  # removed by hand just now
            return None

    def stage(self, key: str, mtime: int, attributes: bytes) -> str:
        """Write the attributes of bytes that are not in place yet; return their path."""
        path = self._attributes_path(key, mtime)
        try:
            file = os.open(path, _WRITE, 0o644)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            file = os.open(path, _WRITE, 0o644)
        try:
            write_all(file, attributes)
        except OSError:
            unlink(path)
            raise
        finally:
            os.close(file)
        return path

    def replace(
        self, key: str, data: str, mtime: int, before: tuple[str, os.stat_result] | None
    ) -> None:
        """Move the bytes in place. `before` is what `current` returned."""
        if before is not None:
            os.replace(data, before[0])
            if before[1].st_mtime_ns != mtime:
                unlink(self._attributes_path(key, before[1].st_mtime_ns))
            return
        plain = self._plain_path(key)
        if os.path.dirname(plain) in self._plain:
            try:
                os.replace(data, plain)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                self._plain = {self.root}  # a folder came, or was removed by hand
            else:
                return
        os.replace(data, self._target(key))

    def _plain_path(self, key: str) -> str:
        return self.root + "/" + "/".join(encode(key, fold=self._fold))

    def rewrite(self, key: str, mtime: int, attributes: bytes, aside: str) -> None:
        """Replace the attributes of what is there, through the file `aside`."""
        path = self._attributes_path(key, mtime)
        with open(aside, "wb", buffering=0) as file:
            write_all(file.fileno(), attributes)
        try:
            os.replace(aside, path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.replace(aside, path)

    def has_attributes(self, key: str, mtime: int, attributes: bytes) -> bool:
        """Return whether these are the attributes of the object with this modification time."""
        try:
            return Path(self._attributes_path(key, mtime)).read_bytes() == attributes
        except OSError:
            return False

    def remove(self, key: str) -> None:
        """Remove bytes and attributes."""
        found = self.current(key)
        if found is None:
            return
        path, status = found
        os.unlink(path)
        attributes = self._attributes_path(key, status.st_mtime_ns)
        unlink(attributes)
        if _prune(path, self.root):
            self._plain = {self.root}
        _prune(attributes, self._attributes)

    def sweep(self) -> int:
        """Remove attributes without data, before the first change; return how many there were."""
        swept = 0
        for attributes in folders.files(Path(self._attributes)):
            start, _, mtime = attributes.name.rpartition("%")
            if not start:
                continue  # the bucket's own
            above = attributes.relative_to(self._attributes).parts[:-1]
            found = self.current(join([*above, start]))
            if found is None or f"{found[1].st_mtime_ns:x}" != mtime:
                unlink(str(attributes))
                swept += 1
        return swept

    def _target(self, key: str) -> str:
        """Return the path of a new object, making its folders."""
        parts = encode(key, fold=self._fold)
        folder = self.root
        if len(parts) > 1:
            folder = f"{self.root}/{'/'.join(parts[:-1])}"
            if os.path.isdir(folder):
                self._remember(folder)
            else:
                folder = self._folders(parts[:-1])
        plain = f"{folder}/{parts[-1]}"
        return plain + OBJECT_ASIDE if os.path.isdir(plain) else plain

    def _remember(self, folder: str) -> None:
        if len(self._plain) >= _MOST_KNOWN:
            self._plain = {self.root}
        self._plain.add(folder)

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


def unlink(path: str) -> None:
    """Remove a file, unless it is missing."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _prune(path: str, root: str) -> bool:
    """Remove the folders above `path` that are empty, up to `root`; return whether one was."""
    folder, pruned = os.path.dirname(path), False
    while len(folder) > len(root):
        try:
            os.rmdir(folder)
        except OSError:
            break
        folder, pruned = os.path.dirname(folder), True
    return pruned
