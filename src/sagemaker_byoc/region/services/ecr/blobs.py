"""Layers and configurations by digest, and uploads of them.

STATE/registry/blobs/sha256/4f/4f2a…   a blob; written once, shared by all repositories
STATE/registry/uploads/ID              an upload; a client can continue a broken one
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import uuid
from io import FileIO
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.region.wire.operations import AwsError

DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")
_CHUNK = 1 << 20


class RegistryError(AwsError):
    """An error with a code of the distribution specification."""


def blob_unknown(digest: str) -> RegistryError:
    return RegistryError("BLOB_UNKNOWN", f"blob {digest} is unknown to the repository", status=404)


def digest_invalid(what: str) -> RegistryError:
    return RegistryError("DIGEST_INVALID", what)


class Blobs:
    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs"
        self._uploads = folder / "uploads"
        self._lock = threading.Lock()
        self._open: dict[str, UploadedBlob] = {}
        for path in (self._blobs, self._uploads):
            path.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Return its path, whether it exists or not; raise RegistryError DIGEST_INVALID."""
        if not DIGEST.fullmatch(digest):
            raise digest_invalid(f"{digest!r} is not a digest: sha256: and 64 digits in hex")
        algorithm, _, value = digest.partition(":")
        return self._blobs / algorithm / value[:2] / value

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def add(self, data: bytes) -> str:
        """Add a small blob, such as a manifest; return its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        write_atomically(self.path(digest), data)
        return digest

    def read(self, digest: str) -> bytes:
        return self.path(digest).read_bytes()

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def all(self) -> list[str]:
        return [f"{path.parent.parent.name}:{path.name}" for path in self._blobs.glob("*/*/*")]

    def begin(self) -> UploadedBlob:
        name = str(uuid.uuid4())
        (self._uploads / name).touch()
        return self.upload(name)

    def upload(self, name: str) -> UploadedBlob:
        """Return an upload of this process or an earlier one; raise BLOB_UPLOAD_UNKNOWN."""
        with self._lock:
            upload = self._open.get(name)
            if upload is None:
                path = self._uploads / name
                if not re.fullmatch(r"[0-9a-f-]{36}", name) or not path.is_file():
                    raise RegistryError(
                        "BLOB_UPLOAD_UNKNOWN", f"no blob upload {name} has begun", status=404
                    )
                upload = self._open[name] = UploadedBlob(path)
            return upload

    def finish(self, upload: UploadedBlob, digest: str) -> None:
        """Make it a blob; raise RegistryError DIGEST_INVALID, leaving the upload as it is."""
        target = self.path(digest)
        upload.seal(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        upload.path.replace(target)
        self._forget(upload)

    def cancel(self, upload: UploadedBlob) -> None:
        upload.path.unlink(missing_ok=True)
        self._forget(upload)

    def drop_uploads(self, before: float) -> None:
        """Remove uploads without a write since `before`, in seconds since 1970."""
        for path in self._uploads.iterdir():
            if path.stat().st_mtime < before:
                self.cancel(self.upload(path.name))

    def _forget(self, upload: UploadedBlob) -> None:
        with self._lock:
            self._open.pop(upload.path.name, None)


class UploadedBlob:
    """An upload of a blob, chunk by chunk. The caller writes one chunk at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.busy = False
        """Whether a request is writing to it; another one is refused."""
        self._sha256: Any = hashlib.sha256() if self.size == 0 else None

    def write(self, batch: list[bytes]) -> None:
        with open(self.path, "ab", buffering=0) as file:
            for data in batch:
                try:
                    _write_all(file, data)
                except OSError:  # a full disk; the client may continue when there is room
                    file.truncate(self.size)
                    raise
                self.size += len(data)
                if self._sha256 is not None:
                    self._sha256.update(data)

    def seal(self, digest: str) -> None:
        """Check and sync it; raise RegistryError DIGEST_INVALID."""
        algorithm, _, value = digest.partition(":")
        if self._sha256 is not None and algorithm == "sha256":
            found = self._sha256.hexdigest()
        else:
            with open(self.path, "rb") as file:
                found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != value:
            raise digest_invalid(
                f"the {self.size} bytes that came have the digest {algorithm}:{found}, not {digest}"
            )
        with open(self.path, "rb") as file:
            os.fchmod(file.fileno(), 0o444)
            os.fsync(file.fileno())


def _write_all(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
