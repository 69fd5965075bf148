"""What is known of a bucket and of an object, and its JSON beside the data."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from sagemaker_byoc.region.wire.aws_errors import AwsError

BINARY = "binary/octet-stream"
"""S3's content type where a client gives none."""
STORAGE_CLASS = "x-amz-storage-class"
"""The header, kept unless it is STANDARD."""
ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes whose objects must be restored before they are read, which we can't."""


@dataclass(frozen=True, slots=True)
class Bucket:
    name: str
    created: datetime
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """All of an object but its bytes."""

    etag: str
    """Without quotes: the MD5 of the bytes, or `MD5-PARTS` for an object made of parts."""
    content_type: str = BINARY
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The user's, names in lower case and without `x-amz-meta-`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further HTTP headers that go back as they came: cache-control, content-encoding…"""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """By algorithm in lower case (`crc32`), base64 as in `x-amz-checksum-crc32`."""
    checksum_type: str = "FULL_OBJECT"
    parts: tuple[int, ...] = ()
    """Sizes of the parts that it was uploaded in."""
    part_checksums: tuple[str, ...] = ()
    """Of the same parts, if the upload had an algorithm."""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def storage_class(self) -> str:
        return self.headers.get(STORAGE_CLASS, "STANDARD")

    def to_json(self) -> bytes:
        document: dict[str, Any] = {
            "etag": self.etag,
            "content_type": self.content_type,
            "metadata": dict(self.metadata),
        }
        if self.headers:
            document["headers"] = dict(self.headers)
        if self.checksums:
            document["checksums"] = dict(self.checksums)
            document["checksum_type"] = self.checksum_type
        if self.parts:
            document["parts"] = list(self.parts)
        if self.part_checksums:
            document["part_checksums"] = list(self.part_checksums)
        if self.tags:
            document["tags"] = dict(self.tags)
        return json.dumps(document).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Attributes:
        """Raises ValueError or TypeError for what `to_json` did not write."""
        document = json.loads(data)
        for name in ("parts", "part_checksums"):
            document[name] = tuple(document.get(name, ()))
        return cls(**document)

    @classmethod
    def of_foreign(cls, status: os.stat_result) -> Attributes:
        """For a file that was put into the bucket's folder by hand.

        Its ETag is made as for an object of one part: one that no client takes for an MD5, which
        would cost reading the file.
        """
        identity = f"{status.st_size}:{status.st_mtime_ns}".encode()
        digest = hashlib.md5(identity, usedforsecurity=False).hexdigest()
        return cls(etag=f"{digest}-1")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size: int
    modified: datetime
    """To the second, as S3 tells it."""
    attributes: Attributes

    @property
    def etag(self) -> str:
        return self.attributes.etag

    @property
    def content_type(self) -> str:
        return self.attributes.content_type

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.attributes.metadata


Condition: TypeAlias = Callable[[ObjectInfo | None], None]
"""Gets what is there now, and raises S3Error where the put must not happen."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    info: ObjectInfo
    path: Path
    """The file that holds the bytes. It is never written again: a put replaces it by another, so
    that an open or hard-linked file stays what it was."""


def info_of(key: str, status: os.stat_result, attributes: Attributes) -> ObjectInfo:
    seconds = status.st_mtime_ns // 1_000_000_000
    return ObjectInfo(key, status.st_size, datetime.fromtimestamp(seconds, UTC), attributes)


_SCHEME = "s3://"


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """Bucket and key, or key prefix; the key is empty where the URI names a whole bucket.

    Nothing in the key is unquoted or collapsed: S3 URIs are not URLs. Raises ValidationException.
    """
    bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
    if not uri.startswith(_SCHEME) or not bucket:
        raise AwsError(
            "ValidationException", f"{uri!r} is not an S3 URI: write s3://BUCKET or s3://BUCKET/KEY"
        )
    return bucket, key
