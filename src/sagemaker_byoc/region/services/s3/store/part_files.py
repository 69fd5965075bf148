"""Files of the parts of an upload, and the writer of a part (see multipart.py)."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.region.services.s3.store.disk import Disk
from sagemaker_byoc.region.services.s3.store.objects import no_such_upload

MIN_PART = 5 << 20
BODY = "body"


@dataclass(frozen=True, slots=True)
class Part:
    number: int
    size: int
    etag: str
    checksum: str
    file: str
    offset: int
    modified: str
    """ISO 8601."""

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.modified)


class Places:
    """The places of `body` that are taken; known to this process only."""

    def __init__(self) -> None:
        self.size = 0
        self.given: set[int] = set()
        self.writing = 0
        self.closed = False

    def take(self, number: int, size: int) -> bool:
        if self.closed:
            return False
        if not self.size and size >= MIN_PART:
            self.size = size
        if not 0 < size <= self.size or number in self.given:
            return False
        self.given.add(number)
        self.writing += 1
        return True

    def leave(self) -> None:
        self.writing -= 1

    def close(self) -> bool:
        """Give no more places; return whether nobody writes."""
        self.closed = True
        return self.writing == 0


class PartWriter:
    """A part that is being written; a Sink."""

    def __init__(  # noqa: PLR0913, PLR0917 - made in one place
        self,
        folder: Path,
        number: int,
        name: str,
        offset: int,
        lock: threading.Lock,
        disk: Disk,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        self.size = 0
        self._lock = lock
        self._disk = disk
        self._leave = leave
        self._folder = folder
        self._number = number
        self._name = name
        self._offset = offset
        self._md5 = hashlib.md5(usedforsecurity=False)
        try:
            self._file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            leave()
            raise no_such_upload(folder.name) from None
        self._open = True

    @property
    def md5(self) -> bytes:
        return self._md5.digest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._md5.update(data)
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, self._offset + self.size)
            self.size += written
            view = view[written:]

    def commit(self, checksum: str) -> Part:
        """Record the part; raise S3Error NoSuchUpload if the upload ended meanwhile."""
        self._disk.sync(self._file)
        part = Part(
            number=self._number,
            size=self.size,
            etag=self.md5.hex(),
            checksum=checksum,
            file=self._name,
            offset=self._offset,
            modified=datetime.now(UTC).replace(microsecond=0).isoformat(),
        )
        self._close()
        record = self._folder / f"{self._number:05}.json"
        with self._lock:
            if not (self._folder / "upload.json").exists():
                raise no_such_upload(self._folder.name)
            before = Part(**json.loads(record.read_bytes())) if record.exists() else None
            write_atomically(record, json.dumps(asdict(part)).encode())
        if before is not None and before.file != BODY:
            (self._folder / before.file).unlink(missing_ok=True)
        return part

    def abort(self) -> None:
        """Remove the part, unless the writer has ended."""
        if self._open:
            self._close()
            if self._name != BODY:
                (self._folder / self._name).unlink(missing_ok=True)

    def _close(self) -> None:
        self._open = False
        os.close(self._file)
        self._leave()
