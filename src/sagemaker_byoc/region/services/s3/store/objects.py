"""Buckets and objects: their attributes, as JSON beside the data, their names, and S3's errors."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from sagemaker_byoc.contract.facts import is_bucket_name
from sagemaker_byoc.region.wire.operations import AwsError

BINARY = "binary/octet-stream"
"""S3's content type if a client sends none."""
STORAGE_CLASS = "x-amz-storage-class"
"""The header, kept unless it is STANDARD."""
ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes whose objects must be restored before a read, which is not supported."""
_RESERVED_STARTS = ("sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
"""Prefixes and suffixes that S3 reserves for access points, directory buckets and examples."""
MAX_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Bucket:
    name: str
    created: datetime
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """Everything about an object except its bytes."""

    etag: str
    """Without quotes: the MD5 of the bytes, or `MD5-PARTS` for an object made of parts."""
    content_type: str = BINARY
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The user's, names in lower case and without `x-amz-meta-`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further HTTP headers, returned as they were sent: cache-control, content-encoding…"""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """By algorithm in lower case (`crc32`), base64 as in `x-amz-checksum-crc32`."""
    checksum_type: str = "FULL_OBJECT"
    parts: tuple[int, ...] = ()
    """Sizes of the parts of its upload."""
    part_checksums: tuple[str, ...] = ()
    """Checksums of the same parts, if the upload had an algorithm."""
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
        """Raise ValueError or TypeError for what `to_json` did not write."""
        document = json.loads(data)
        for name in ("parts", "part_checksums"):
            document[name] = tuple(document.get(name, ()))
        return cls(**document)

    @classmethod
    def of_foreign(cls, status: os.stat_result) -> Attributes:
        """Return attributes for a file that was put into the bucket's folder by hand.

        Its ETag is that of an object of one part, which clients do not take for an MD5: that
        would need a read of the file.
        """
        identity = f"{status.st_size}:{status.st_mtime_ns}".encode()
        digest = hashlib.md5(identity, usedforsecurity=False).hexdigest()
        return cls(etag=f"{digest}-1")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size: int
    modified: datetime
    """To the second, as in S3."""
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
"""A function of the current object that raises S3Error if the change must not happen."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    info: ObjectInfo
    path: Path
    """The file with the bytes. It is never changed: a put replaces it by another, so that an open
    or hard-linked file stays as it was."""


def info_of(key: str, status: os.stat_result, attributes: Attributes) -> ObjectInfo:
    seconds = status.st_mtime_ns // 1_000_000_000
    return ObjectInfo(key, status.st_size, datetime.fromtimestamp(seconds, UTC), attributes)


def check_bucket_name(bucket: str) -> None:
    """Raise S3Error unless it is the name of a general purpose bucket ("bucket naming rules")."""
    is_reserved = bucket.startswith(_RESERVED_STARTS) or bucket.endswith(_RESERVED_ENDS)
    if is_reserved or not is_bucket_name(bucket):
        raise S3Error("InvalidBucketName", "The specified bucket is not valid.", BucketName=bucket)


def check_key(key: str) -> None:
    size = len(key.encode("utf-8", "surrogatepass"))
    if size > MAX_KEY_BYTES:
        raise S3Error(
            "KeyTooLongError",
            "Your key is too long",
            Size=str(size),
            MaxSizeAllowed=str(MAX_KEY_BYTES),
        )
    if not key:
        raise S3Error("InvalidArgument", "The key of an object can't be empty")


_SCHEME = "s3://"


def parse_s3_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of `s3://BUCKET/KEY`; the key is empty if the URI names a bucket.

    The key is taken as it is: S3 URIs are not URLs. Raise AwsError ValidationException.
    """
    bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
    if not uri.startswith(_SCHEME) or not bucket:
        raise AwsError(
            "ValidationException", f"{uri!r} is not an S3 URI: write s3://BUCKET or s3://BUCKET/KEY"
        )
    return bucket, key


class S3Error(AwsError):
    """An error in S3's words."""


def no_such_bucket(bucket: str) -> S3Error:
    return S3Error(
        "NoSuchBucket", "The specified bucket does not exist", status=404, BucketName=bucket
    )


def no_such_key(key: str) -> S3Error:
    return S3Error("NoSuchKey", "The specified key does not exist.", status=404, Key=key)


def no_such_upload(upload: str) -> S3Error:
    return S3Error(
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may"
        " have been aborted or completed.",
        status=404,
        UploadId=upload,
    )


def precondition_failed(header: str) -> S3Error:
    return S3Error(
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        status=412,
        Condition=header,
    )


def invalid_argument(message: str, name: str, value: str) -> S3Error:
    return S3Error(
        "InvalidArgument", message or "Invalid Argument", ArgumentName=name, ArgumentValue=value
    )


def unsupported(name: str) -> S3Error:
    return S3Error(
        "NotImplemented",
        f"This object store does not support {name}: leave it out",
        status=501,
        Header=name,
    )
