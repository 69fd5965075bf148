"""Multipart uploads: objects that arrive in parts.

    ROOT/.uploads/BUCKET/ID/upload.json    key, attributes, when it began
    ROOT/.uploads/BUCKET/ID/00001.json     a part: size, ETag, checksum, and where its bytes are
    ROOT/.uploads/BUCKET/ID/body           the bytes of all parts of equal size, each in its place
    ROOT/.uploads/BUCKET/ID/00007-a1b2     the bytes of a part that did not fit there
    ROOT/.uploads/BUCKET/.completed/ID     the answer to the completion of an upload

Clients send parts of one size and a shorter last one. So the size of the first part tells the place
of each part in the object. They are written there at once, and the completion of an upload is a
rename instead of a copy. A place is written once: a part that is sent again gets
another file, and the completion then copies.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.files import write_atomically
from sagemaker_byoc.region.services.s3.store import checksums
from sagemaker_byoc.region.services.s3.store.disk import write_all
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import (
    Attributes,
    Condition,
    ObjectInfo,
    S3Error,
    check_key,
    no_such_upload,
)
from sagemaker_byoc.region.services.s3.store.part_files import (
    BODY,
    MIN_PART,
    Part,
    PartWriter,
    Places,
)
from sagemaker_byoc.region.services.s3.store.writers import Writer

MAX_PARTS = 10_000
_TURNS = 64
MAX_RECEIPTS = 100
"""Completed uploads of one bucket whose answers are kept for repeated requests."""
_COPY_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Upload:
    id: str
    key: str
    begun: datetime
    attributes: Attributes
    algorithm: str
    """Algorithm of the parts' checksums, in lower case; empty if the client named none."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A part as the completion names it."""

    number: int
    etag: str
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Promised:
    """What the client states about the object when it completes an upload."""

    checksums: Mapping[str, str] = field(default_factory=dict)
    checksum_type: str | None = None
    size: str | None = None


_NOTHING = Promised()


class Uploads:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._places: dict[str, Places] = {}
        self._turns = [threading.Lock() for _ in range(_TURNS)]

    def create(self, bucket: str, key: str, attributes: Attributes, algorithm: str) -> Upload:
        """Begin an upload; raise S3Error NoSuchBucket, KeyTooLongError."""
        check_key(key)
        self._store.files(bucket)
        upload = Upload(uuid.uuid4().hex, key, datetime.now(UTC), attributes, algorithm)
        document = {
            "key": key,
            "begun": upload.begun.isoformat(),
            "algorithm": algorithm,
            "attributes": json.loads(attributes.to_json()),
            "checksum_type": attributes.checksum_type,
        }
        folder = self._folder(bucket, upload.id)
        write_atomically(folder / "upload.json", json.dumps(document).encode())
        with self._lock:
            self._places[upload.id] = Places()
        return upload

    def get(self, bucket: str, key: str, upload_id: str) -> Upload:
        """Return the upload; raise S3Error NoSuchUpload."""
        upload = self._load(bucket, upload_id)
        if upload is None or upload.key != key:
            raise no_such_upload(upload_id)
        return upload

    def all(self, bucket: str) -> list[Upload]:
        """Return the uploads by key, then by time."""
        self._store.files(bucket)
        folder = self._store.uploads / bucket
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        found = [upload for name in names if (upload := self._load(bucket, name)) is not None]
        return sorted(found, key=lambda upload: (upload.key.encode(), upload.begun))

    def parts(self, bucket: str, upload: Upload) -> dict[int, Part]:
        """Return the parts by number, in order."""
        parts = {}
        for file in sorted(self._folder(bucket, upload.id).glob("[0-9]*.json")):
            part = Part(**json.loads(file.read_bytes()))
            parts[part.number] = part
        return parts

    def open_part(self, bucket: str, upload: Upload, number: int, size: int) -> PartWriter:
        """Return a writer for a part of the announced `size`."""
        folder = self._folder(bucket, upload.id)
        record = folder / f"{number:05}.json"
        with self._lock:
            places = self._places.get(upload.id)
            if places is not None and not record.exists() and places.take(number, size):
                offset = (number - 1) * places.size
                return PartWriter(
                    folder, number, BODY, offset, self._lock, self._store.disk, places.leave
                )
        name = f"{number:05}-{uuid.uuid4().hex[:8]}"
        return PartWriter(folder, number, name, 0, self._lock, self._store.disk)

    def turn(self, upload_id: str) -> threading.Lock:
        """Return the lock of a completion: a repeated request waits for the first answer."""
        return self._turns[hash(upload_id) % _TURNS]

    def completed(
        self, bucket: str, key: str, upload_id: str, wanted: list[Wanted]
    ) -> Attributes | None:
        """Return the attributes with which the same request was answered before, or None."""
        self._store.files(bucket)
        if not upload_id.isalnum():
            return None
        try:
            receipt = json.loads((self._receipts(bucket) / upload_id).read_bytes())
        except FileNotFoundError:
            return None
        if (receipt["key"], receipt["parts"]) != (key, _named(wanted)):
            return None
        return Attributes.from_json(json.dumps(receipt["attributes"]).encode())

    def complete(
        self,
        bucket: str,
        upload: Upload,
        wanted: list[Wanted],
        condition: Condition | None,
        promised: Promised = _NOTHING,
    ) -> ObjectInfo:
        """Put the object in place. Raise S3Error InvalidPart, InvalidPartOrder, EntityTooSmall,
        BadDigest, InvalidRequest, and what `condition` raises.
        """
        _check_promised(upload, promised)
        there = self.parts(bucket, upload)
        parts = _chosen(upload, wanted, there)
        folder = self._folder(bucket, upload.id)
        md5 = hashlib.md5(
            b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False
        )
        attributes = replace(
            upload.attributes,
            etag=f"{md5.hexdigest()}-{len(parts)}",
            checksums=_checksums(upload, parts),
            parts=tuple(part.size for part in parts),
            part_checksums=tuple(part.checksum for part in parts) if upload.algorithm else (),
        )
        _check_size(promised, sum(attributes.parts))
        if upload.algorithm:
            _check_sums(promised.checksums, attributes.checksums)
            _check_complete(upload, wanted)
        with self._store.open_writer(bucket, upload.key) as writer:
            writer.attributes = attributes
            self._put_together(upload, parts, there, folder, writer)
            if not upload.algorithm:
                _check_sums(promised.checksums, _computed(promised.checksums, writer.file))
            info = writer.commit(condition)
        self._keep_receipt(bucket, upload, wanted, info.attributes)
        self.drop(bucket, upload)
        return info

    def _put_together(
        self,
        upload: Upload,
        parts: list[Part],
        there: Mapping[int, Part],
        folder: Path,
        writer: Writer,
    ) -> None:
        """Give the writer the bytes of `parts`, by a link if they are in order in one file."""
        with self._lock:
            places = self._places.get(upload.id)
            settled = places is None or places.close()
        # The file is truncated to the chosen parts. It must not lose parts that can be named
        # again: if this completion fails, the next one may choose others.
        chosen = {part.number for part in parts}
        left_out = any(part.file == BODY and part.number not in chosen for part in there.values())
        whole = _whole_file(folder, parts) if settled and not left_out else None
        if whole is not None:
            os.truncate(whole, sum(part.size for part in parts))
        if whole is None or not writer.take(whole):
            for part in parts:
                _copy(folder, part, writer.file)

    def _keep_receipt(
        self, bucket: str, upload: Upload, wanted: list[Wanted], attributes: Attributes
    ) -> None:
        """Keep the answer for a client that did not get it and asks again."""
        receipt = {
            "key": upload.key,
            "parts": _named(wanted),
            "attributes": json.loads(attributes.to_json()),
        }
        folder = self._receipts(bucket)
        write_atomically(folder / upload.id, json.dumps(receipt).encode())
        with self._lock:
            kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            for path in kept[:-MAX_RECEIPTS]:
                path.unlink(missing_ok=True)

    def _receipts(self, bucket: str) -> Path:
        return self._store.uploads / bucket / ".completed"

    def drop(self, bucket: str, upload: Upload) -> None:
        """Remove the upload and its parts."""
        with self._lock:
            self._places.pop(upload.id, None)
        folder = self._folder(bucket, upload.id)
        # The upload ends with this file; the rest belongs to none.
        (folder / "upload.json").unlink(missing_ok=True)
        folders.remove(folder)

    def _load(self, bucket: str, upload_id: str) -> Upload | None:
        self._store.files(bucket)
        if not upload_id.isalnum():
            return None
        try:
            document = json.loads((self._folder(bucket, upload_id) / "upload.json").read_bytes())
        except FileNotFoundError:
            return None
        return Upload(
            id=upload_id,
            key=document["key"],
            begun=datetime.fromisoformat(document["begun"]),
            attributes=replace(
                Attributes.from_json(json.dumps(document["attributes"]).encode()),
                checksum_type=document["checksum_type"],
            ),
            algorithm=document["algorithm"],
        )

    def _folder(self, bucket: str, upload_id: str) -> Path:
        return self._store.uploads / bucket / upload_id


def _chosen(upload: Upload, wanted: list[Wanted], parts: dict[int, Part]) -> list[Part]:
    numbers = [want.number for want in wanted]
    if any(second <= first for first, second in pairwise(numbers)):
        raise S3Error(
            "InvalidPartOrder",
            "The list of parts was not in ascending order. Parts must be ordered by part number.",
            UploadId=upload.id,
        )
    chosen = []
    for want in wanted:
        part = parts.get(want.number)
        check_algorithms(upload, want.checksums)
        stated = want.checksums.get(upload.algorithm)
        differs = part is not None and stated not in {None, part.checksum}
        if part is None or part.etag != want.etag.strip('"') or differs:
            raise S3Error(
                "InvalidPart",
                "One or more of the specified parts could not be found.  The part may not have"
                " been uploaded, or the specified entity tag may not match the part's entity tag.",
                UploadId=upload.id,
                PartNumber=str(want.number),
                ETag=want.etag.strip('"'),
            )
        chosen.append(part)
    for part in chosen[:-1]:
        if part.size < MIN_PART:
            raise S3Error(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                ProposedSize=str(part.size),
                MinSizeAllowed=str(MIN_PART),
                PartNumber=str(part.number),
                ETag=part.etag,
            )
    return chosen


def _named(wanted: list[Wanted]) -> list[list[object]]:
    return [[want.number, want.etag.strip('"')] for want in wanted]


def check_algorithms(upload: Upload, names: Iterable[str]) -> None:
    """Raise S3Error InvalidRequest if a checksum is of another algorithm than the upload."""
    for name in names:
        if upload.algorithm and name != upload.algorithm:
            raise S3Error(
                "InvalidRequest",
                f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm},"
                f" actual checksum Type: {name}",
            )


def _check_complete(upload: Upload, wanted: list[Wanted]) -> None:
    """Raise S3Error InvalidRequest for a composite checksum without those of its parts."""
    if upload.attributes.checksum_type != "COMPOSITE":
        return
    for want in wanted:
        if upload.algorithm not in want.checksums:
            raise S3Error(
                "InvalidRequest",
                f"The upload was created using a {upload.algorithm} checksum. The complete request"
                f" must include the checksum for each part. It was missing for part {want.number}"
                " in the request.",
            )


def _check_promised(upload: Upload, promised: Promised) -> None:
    check_algorithms(upload, promised.checksums)
    kind = upload.attributes.checksum_type
    if promised.checksum_type not in {None, kind}:
        raise S3Error(
            "InvalidRequest",
            f"The upload was created using the {kind} checksum mode. The complete request must use"
            " the same checksum mode.",
        )


def _check_size(promised: Promised, size: int) -> None:
    if promised.size is not None and promised.size != str(size):
        raise S3Error(
            "InvalidRequest",
            "The provided 'x-amz-mp-object-size' header does not match what was computed:"
            f" {promised.size}, computed {size}",
        )


def _check_sums(promised: Mapping[str, str], actual: Mapping[str, str]) -> None:
    for name, value in promised.items():
        if actual[name] != value:
            raise S3Error(
                "BadDigest", f"The {name} you specified did not match the calculated checksum."
            )


def _computed(names: Iterable[str], file: int) -> dict[str, str]:
    """Return checksums of the bytes of an open file."""
    running = {name: checksums.start(name) for name in names}
    position = 0
    while running and (data := os.pread(file, _COPY_CHUNK, position)):
        position += len(data)
        for checksum in running.values():
            checksum.update(data)
    return {name: checksums.encode(checksum.digest()) for name, checksum in running.items()}


def _checksums(upload: Upload, parts: list[Part]) -> dict[str, str]:
    if not upload.algorithm:
        return {}
    if upload.attributes.checksum_type == "COMPOSITE":
        value = checksums.composite(upload.algorithm, (part.checksum for part in parts))
    else:
        value = checksums.full_object(
            upload.algorithm, ((part.checksum, part.size) for part in parts)
        )
    return {upload.algorithm: value}


def _whole_file(folder: Path, parts: list[Part]) -> Path | None:
    """Return the file in which all parts are in order from the start, or None."""
    offset = 0
    for part in parts:
        if part.file != parts[0].file or part.offset != offset:
            return None
        offset += part.size
    return folder / parts[0].file


def _copy(folder: Path, part: Part, target: int) -> None:
    with open(folder / part.file, "rb", buffering=0) as source:
        source.seek(part.offset)
        left = part.size
        while left:
            data = memoryview(source.read(min(left, _COPY_CHUNK)))
            if not data:
                raise OSError(f"{source.name} is shorter than its record says")
            left -= len(data)
            write_all(target, data)
