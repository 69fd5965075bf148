"""Errors of S3, in its own words, and checks of names."""

from __future__ import annotations

from sagemaker_byoc.contract.facts import is_bucket_name
from sagemaker_byoc.region.wire.operations import AwsError

_RESERVED_STARTS = ("sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
"""Prefixes and suffixes that S3 reserves for access points, directory buckets and examples."""
MAX_KEY_BYTES = 1024


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
