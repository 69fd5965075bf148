"""The object store: buckets are folders, objects are files that are replaced, not changed.

    ROOT/BUCKET/train/a.csv                    the bytes: for `ls`, `cat`, and for `cp` into it
    ROOT/.attributes/BUCKET/train/a.csv%1a2b…  ETag, content type, metadata (see bucket_files.py)
    ROOT/.uploads/BUCKET/ID/                   multipart uploads that have begun (see multipart.py)
    ROOT/.journal/                             the last changes (see journal.py)
    ROOT/.new/                                 objects that are being written; emptied at the start
    ROOT/.unclosed                             exists while a process owns ROOT, and after a crash

One process owns ROOT. Everything here is synchronous and safe to call from any thread.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.region.services.s3.store.bucket_files import Clock, Files
from sagemaker_byoc.region.services.s3.store.changes import Delete, Drop, Put, Tag, repeat, seal
from sagemaker_byoc.region.services.s3.store.commits import Commits
from sagemaker_byoc.region.services.s3.store.disk import Disk
from sagemaker_byoc.region.services.s3.store.journal import Journal
from sagemaker_byoc.region.services.s3.store.keys import Folders, Walk
from sagemaker_byoc.region.services.s3.store.objects import (
    BINARY,
    Attributes,
    Bucket,
    Condition,
    ObjectInfo,
    S3Error,
    StoredObject,
    check_bucket_name,
    check_key,
    info_of,
    no_such_bucket,
    no_such_key,
)
from sagemaker_byoc.region.services.s3.store.writers import Writer

_CREATED = "%created"
_COPY_CHUNK = 1 << 20


class ObjectStore:
    """An object store in `root`. With `disk.waits`, what a call changed survives a power cut."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self._root = root
        self._path = str(root)
        self.disk = Disk() if disk is None else disk
        self._new = str(root / ".new")
        self._attributes = root / ".attributes"
        self.uploads = root / ".uploads"
        for folder in (Path(self._new), self._attributes, self.uploads):
            folder.mkdir(parents=True, exist_ok=True)
        self._fold = _ignores_case(self._attributes)
        self._clock = Clock()
        self._prefix = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._folders = Folders()
        self._files: dict[str, Files] = {}
        self._lock = threading.Lock()
        self._journal = Journal(root / ".journal", self.disk)
        if records := self._journal.records():
            repeat(records, root, self.files, self._new)
            self._journal.erase()
        for leftover in Path(self._new).iterdir():
            leftover.unlink()
        self._unclosed = root / ".unclosed"
        if self._unclosed.exists():
            self.sweep()
        self._unclosed.touch()
        self.commits = Commits(self._journal if self.disk.waits else None)

    def close(self) -> None:
        """Close the store, so that the next start need not look for the remains of a crash.

        Idempotent.
        """
        self.commits.close()
        self._journal.close()
        self._unclosed.unlink(missing_ok=True)

    # Buckets

    def buckets(self) -> list[Bucket]:
        names = sorted(
            entry.name
            for entry in os.scandir(self._root)
            if entry.is_dir() and not entry.name.startswith(".")
        )
        return [self._bucket(name) for name in names]

    def has_bucket(self, bucket: str) -> bool:
        return _is_name(bucket) and os.path.isdir(f"{self._path}/{bucket}")  # noqa: PTH112

    def bucket(self, bucket: str) -> Bucket:
        """Return the bucket; raise S3Error NoSuchBucket."""
        if not self.has_bucket(bucket):
            raise no_such_bucket(bucket)
        return self._bucket(bucket)

    def create_bucket(self, bucket: str, tags: Mapping[str, str] | None = None) -> None:
        """Raise S3Error InvalidBucketName, BucketAlreadyOwnedByYou."""
        check_bucket_name(bucket)
        with self._lock:
            if self.has_bucket(bucket):
                raise S3Error(
                    "BucketAlreadyOwnedByYou",
                    "Your previous request to create the named bucket succeeded and you already"
                    " own it.",
                    status=409,
                    BucketName=bucket,
                )
            for left in (self._attributes / bucket, self.uploads / bucket):
                if left.exists():  # a deletion left it
                    shutil.rmtree(left)
            self._write_bucket(Bucket(bucket, datetime.now(UTC), tags or {}))
            (self._root / bucket).mkdir()
            self.disk.sync_folder(str(self._root))

    def tag_bucket(self, bucket: str, tags: Mapping[str, str]) -> None:
        """Replace all of its tags; raise S3Error NoSuchBucket."""
        with self._lock:
            self._write_bucket(replace(self.bucket(bucket), tags=tags))

    def delete_bucket(self, bucket: str) -> None:
        """Delete it with its uploads; raise S3Error NoSuchBucket, BucketNotEmpty."""

        def check() -> None:
            if next(self.list(bucket), None) is not None:
                raise S3Error(
                    "BucketNotEmpty",
                    "The bucket you tried to delete is not empty",
                    status=409,
                    BucketName=bucket,
                )

        def remove() -> None:
            self._files.pop(bucket, None)
            shutil.rmtree(self._root / bucket)
            self.disk.sync_folder(str(self._root))
            folders.remove(self._attributes / bucket)
            folders.remove(self.uploads / bucket)

        self.commits.run(Drop(bucket, check, remove))

    # Objects

    def list(self, bucket: str, prefix: str = "", start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield objects in the order of their keys' UTF-8 bytes."""
        files = self.files(bucket)
        for key, path in self.walk(bucket, prefix, start_after):
            info = self.info(files, key, path)
            if info is not None:
                yield info

    def walk(self, bucket: str, prefix: str = "", start_after: str = "") -> Walk:
        """Return a walk over keys and paths, which can skip common prefixes."""
        root = self.files(bucket).root
        return Walk(self._folders, root, prefix.encode(), start_after.encode())

    def info(self, files: Files, key: bytes, path: str) -> ObjectInfo | None:
        """Return the object that a walk found; None if it is gone or its key is not UTF-8."""
        try:
            text = key.decode()
        except UnicodeDecodeError:
            return None
        found = files.status(text, path)
        return None if found is None else info_of(text, *found)

    def get(self, bucket: str, key: str) -> StoredObject:
        """Return the object; raise S3Error NoSuchBucket, NoSuchKey."""
        file, stored = self.open(bucket, key)
        os.close(file)
        return stored

    def open(self, bucket: str, key: str) -> tuple[int, StoredObject]:
        """Return the object and an open file descriptor of its bytes."""
        found = self.files(bucket).read(key)
        if found is None:
            raise no_such_key(key)
        file, status, attributes, path = found
        return file, StoredObject(info_of(key, status, attributes), Path(path))

    def put_file(
        self, bucket: str, key: str, source: Path, *, content_type: str = BINARY, move: bool = False
    ) -> ObjectInfo:
        """Put a file. `move` removes it, without a copy if it is on the same file system."""
        writer = self.open_writer(bucket, key, content_type=content_type)
        with writer, open(source, "rb", buffering=0) as file:
            feed = writer.count if move and writer.take(source) else writer.write
            while data := file.read(_COPY_CHUNK):
                feed(data)
            info = writer.commit()
        if move:
            source.unlink(missing_ok=True)
        return info

    def put_bytes(
        self,
        bucket: str,
        key: str,
        data: bytes,
        *,
        content_type: str = BINARY,
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        with self.open_writer(bucket, key, content_type=content_type, metadata=metadata) as writer:
            writer.write(data)
            return writer.commit()

    def open_writer(
        self,
        bucket: str,
        key: str,
        *,
        content_type: str = BINARY,
        metadata: Mapping[str, str] | None = None,
    ) -> Writer:
        """Return a writer; raise S3Error NoSuchBucket, KeyTooLongError."""
        self.files(bucket)
        return self.make_writer(bucket, key, content_type=content_type, metadata=metadata)

    def make_writer(
        self,
        bucket: str,
        key: str,
        *,
        content_type: str = BINARY,
        metadata: Mapping[str, str] | None = None,
    ) -> Writer:
        """Return a writer without a look at the bucket; raise S3Error KeyTooLongError."""
        check_key(key)
        attributes = Attributes(etag="", content_type=content_type, metadata=metadata or {})

        def make(writer: Writer, condition: Condition | None) -> Put:
            return self._put(bucket, key, writer, condition)

        return Writer(self._aside(), attributes, make, self.commits.run)

    def delete(self, bucket: str, key: str, condition: Condition | None = None) -> None:
        """Delete the object; a missing one counts as deleted."""
        self.commits.run(Delete(self.files, bucket, key, condition))

    def tag(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replace all tags of an object; raise S3Error NoSuchBucket, NoSuchKey."""
        self.commits.run(Tag(self.files, bucket, key, tags, self._aside()))

    def sweep(self) -> int:
        """Remove the attributes that crashes left; return how many there were."""
        return sum(self.files(bucket.name).sweep() for bucket in self.buckets())

    def known_files(self, bucket: str) -> Files:
        """Return the files of a bucket that was there before; else raise S3Error NoSuchBucket."""
        return self._files.get(bucket) or self.files(bucket)

    def files(self, bucket: str) -> Files:
        if not self.has_bucket(bucket):
            raise no_such_bucket(bucket)
        files = self._files.get(bucket)
        if files is None:
            files = Files(self._root / bucket, self._attributes / bucket, fold=self._fold)
            self._files[bucket] = files
        return files

    def _put(self, bucket: str, key: str, writer: Writer, condition: Condition | None) -> Put:
        status = None
        if writer.data is None:
            status = seal(writer.file, self._clock.next())
            self.disk.sync_new(writer.file, self._new)
        return Put(
            self.known_files,
            bucket,
            key,
            writer.attributes,
            condition,
            clock=self._clock,
            path=writer.path,
            data=writer.data,
            status=status,
        )

    def _aside(self) -> str:
        return f"{self._new}/{self._prefix}-{next(self._numbers)}"

    def _bucket(self, name: str) -> Bucket:
        try:
            document = json.loads((self._attributes / name / _CREATED).read_bytes())
            created = datetime.fromisoformat(document["created"])
            return Bucket(name, created, document.get("tags", {}))
        except (OSError, ValueError, KeyError):  # made by hand, with mkdir
            modified = (self._root / name).stat().st_mtime
            return Bucket(name, datetime.fromtimestamp(modified, UTC))

    def _write_bucket(self, bucket: Bucket) -> None:
        document = {"created": bucket.created.isoformat(), "tags": dict(bucket.tags)}
        write_atomically(self._attributes / bucket.name / _CREATED, json.dumps(document).encode())


def _is_name(bucket: str) -> bool:
    return bool(bucket) and not bucket.startswith(".") and "/" not in bucket and "\0" not in bucket


def _ignores_case(folder: Path) -> bool:
    probe = folder / "case"
    probe.touch()
    try:
        return (folder / "CASE").exists()
    finally:
        probe.unlink()
