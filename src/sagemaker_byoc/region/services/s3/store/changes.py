"""The changes of a bucket: puts, deletions and tags, in the steps of a group commit."""

# Paths are strings here: Path would take a part of the time of a small object.
# ruff: noqa: PTH110, PTH112, PTH119
from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from sagemaker_byoc.region.services.s3.store.bucket_files import Clock, Files, unlink
from sagemaker_byoc.region.services.s3.store.disk import write_all
from sagemaker_byoc.region.services.s3.store.journal import Kind, Record
from sagemaker_byoc.region.services.s3.store.objects import (
    Attributes,
    Condition,
    ObjectInfo,
    info_of,
    no_such_bucket,
    no_such_key,
)

Found = tuple[str, os.stat_result] | None
"""Path and status of the current object's bytes."""
FilesOf = Callable[[str], Files]
"""Return the files of a bucket; raise S3Error NoSuchBucket."""


def seal(file: int, time: int) -> os.stat_result:
    """Give a file its modification time and its permissions; return its status."""
    os.utime(file, ns=(time, time))
    status = os.fstat(file)
    if status.st_mode & 0o777 != 0o444:
        os.fchmod(file, 0o444)
    return status


def write_aside(path: str, data: bytes | bytearray, time: int) -> os.stat_result:
    """Write the file of an object that is not in place yet."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        write_all(file, data)
        return seal(file, time)
    finally:
        os.close(file)


class Put:
    """An object whose bytes are `data`, or else in the synced file `path` with `status`."""

    def __init__(  # noqa: PLR0913 - made by the Writer only
        self,
        files_of: FilesOf,
        bucket: str,
        key: str,
        attributes: Attributes,
        condition: Condition | None,
        *,
        clock: Clock,
        path: str,
        data: bytes | bytearray | None = None,
        status: os.stat_result | None = None,
    ) -> None:
        self.bucket = bucket
        self.key = key
        self._files_of = files_of
        self._attributes = attributes
        self._condition = condition
        self._clock = clock
        self._path = path
        self._data = data
        self._status = status
        self._staged = ""
        self._before: Found = None

    def prepare(self) -> Record:
        self._files = files = self._files_of(self.bucket)  # it may have been deleted meanwhile
        self._before = _check(files, self.key, self._condition)
        if self._data is not None:
            self._status = write_aside(self._path, self._data, self._clock.next())
        assert self._status is not None
        mtime = self._status.st_mtime_ns
        attributes = self._attributes.to_json()
        self._staged = files.stage(self.key, mtime, attributes)
        return Record(
            Kind.MOVE if self._data is None else Kind.PUT,
            self.bucket,
            self.key,
            _time(self._before),
            mtime,
            attributes,
            self._data or b"",
            os.path.basename(self._path) if self._data is None else "",
        )

    def apply(self) -> ObjectInfo:
        assert self._status is not None
        try:
            self._files.replace(self.key, self._path, self._status.st_mtime_ns, self._before)
        except FileNotFoundError:
            if not os.path.isdir(self._files.root):  # removed by hand
                raise no_such_bucket(self.bucket) from None
            raise
        return info_of(self.key, self._status, self._attributes)

    def undo(self) -> None:
        if self._data is not None:
            unlink(self._path)
        if self._staged:
            unlink(self._staged)


class Delete:
    """The deletion of an object, if it exists."""

    def __init__(
        self, files_of: FilesOf, bucket: str, key: str, condition: Condition | None
    ) -> None:
        self.bucket = bucket
        self.key = key
        self._files_of = files_of
        self._condition = condition

    def prepare(self) -> Record | None:
        self._files = self._files_of(self.bucket)
        before = _check(self._files, self.key, self._condition)
        return Record(Kind.DELETE, self.bucket, self.key, _time(before)) if before else None

    def apply(self) -> None:
        self._files.remove(self.key)

    def undo(self) -> None:
        """There is nothing to remove."""


class Tag:
    """New tags of an object."""

    def __init__(
        self, files_of: FilesOf, bucket: str, key: str, tags: Mapping[str, str], aside: str
    ) -> None:
        self.bucket = bucket
        self.key = key
        self._files_of = files_of
        self._tags = tags
        self._aside = aside

    def prepare(self) -> Record:
        self._files = self._files_of(self.bucket)
        found = self._files.current(self.key)
        present = None if found is None else self._files.status(self.key, found[0])
        if present is None:
            raise no_such_key(self.key)
        status, attributes = present
        self._mtime = status.st_mtime_ns
        self._attributes = replace(attributes, tags=self._tags).to_json()
        times = (self._mtime, self._mtime)
        return Record(Kind.TAG, self.bucket, self.key, *times, self._attributes)

    def apply(self) -> None:
        self._files.rewrite(self.key, self._mtime, self._attributes, self._aside)

    def undo(self) -> None:
        unlink(self._aside)


class Drop:
    """The deletion of a bucket; `check` raises S3Error if it must stay."""

    key = ""

    def __init__(self, bucket: str, check: Callable[[], None], remove: Callable[[], None]) -> None:
        self.bucket = bucket
        self._check = check
        self._remove = remove

    def prepare(self) -> Record:
        self._check()
        return Record(Kind.DROP, self.bucket)

    def apply(self) -> None:
        self._remove()

    def undo(self) -> None:
        """There is nothing to remove."""


def _check(files: Files, key: str, condition: Condition | None) -> Found:
    """Return the current object; raise what `condition` raises about it."""
    found = files.current(key)
    if condition is not None:
        present = None if found is None else files.status(key, found[0])
        condition(None if present is None else info_of(key, *present))
    return found


def _time(found: Found) -> int:
    """Return the modification time of the current object, or 0."""
    return 0 if found is None else found[1].st_mtime_ns


def repeat(records: list[Record], root: Path, files_of: FilesOf, new: str) -> None:
    """Put in place what a crash, or a power cut, left in the journal only.

    Only the last change of each key counts. It is left out if the object there is not of the
    journal: then it was put there by hand, later.
    """
    last: dict[tuple[str, str], Record] = {}
    known: dict[tuple[str, str], set[int]] = {}
    for record in records:
        name = (record.bucket, record.key)
        if record.kind is Kind.DROP:
            # A deletion stays: the bucket itself may still be there, with what was deleted.
            for other, change in list(last.items()):
                if other[0] == record.bucket and change.kind is not Kind.DELETE:
                    del last[other], known[other]
            continue
        known.setdefault(name, {0}).update((record.before, record.mtime))
        before = last.get(name)
        if record.kind is Kind.TAG and before is not None and before.mtime == record.mtime:
            last[name] = replace(before, attributes=record.attributes)
        else:
            last[name] = record
    for name, record in last.items():
        if record.kind is not Kind.DELETE:
            (root / record.bucket).mkdir(exist_ok=True)
        elif not (root / record.bucket).is_dir():
            continue
        _repeat(record, files_of(record.bucket), known[name], new)


def _repeat(record: Record, files: Files, known: set[int], new: str) -> None:
    found = files.current(record.key)
    there = _time(found)
    if there not in known:
        return
    if record.kind is Kind.DELETE:
        files.remove(record.key)
        return
    aside = f"{new}/repeated"
    unlink(aside)
    if record.kind is Kind.PUT:
        if found is not None and there == record.mtime and _holds(found[0], record.data):
            pass
        else:
            write_aside(aside, record.data, record.mtime)
            files.replace(record.key, aside, record.mtime, found)
    elif there != record.mtime:
        if not os.path.exists(f"{new}/{record.file}") or record.kind is Kind.TAG:
            return
        files.replace(record.key, f"{new}/{record.file}", record.mtime, found)
    if not files.has_attributes(record.key, record.mtime, record.attributes):
        files.rewrite(record.key, record.mtime, record.attributes, aside)


def _holds(path: str, data: bytes | bytearray) -> bool:
    return Path(path).read_bytes() == data
