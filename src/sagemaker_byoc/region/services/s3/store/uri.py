"""`s3://BUCKET/KEY`, as it stands in requests."""

from __future__ import annotations

from sagemaker_byoc.region.wire.errors import AwsError

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
