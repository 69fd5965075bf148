"""The same S3 requests to the region and to moto's server, answer by answer.

Where the two differ, DIFFERENCES says how, and who is nearer to S3.
"""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from tests.region import oracle

from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.core.account import Keys

KEYS = Keys("any", "any")

pytestmark = [pytest.mark.slow, oracle.needed]

B = {"Bucket": "bucket"}
SOURCE = {"Bucket": "bucket", "Key": "a/b c"}
FIVE = b"x" * (5 << 20)
TAGS = [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d"}]
DATE = "Fri, 01 Jan 2100 00:00:00 GMT"
EARLY = "Mon, 01 Jan 2001 00:00:00 GMT"

REQUESTS = [
    ("create_bucket", B),
    ("create_bucket", B),
    ("create_bucket", {"Bucket": "Not_Legal"}),
    ("head_bucket", B),
    ("head_bucket", {"Bucket": "nope"}),
    ("get_bucket_location", B),
    ("get_bucket_versioning", B),
    ("get_bucket_policy", B),
    ("get_bucket_cors", B),
    ("get_bucket_lifecycle_configuration", B),
    ("get_bucket_tagging", B),
    ("get_bucket_website", B),
    ("get_bucket_replication", B),
    ("get_public_access_block", B),
    ("get_bucket_logging", B),
    ("get_bucket_request_payment", B),
    ("list_objects_v2", B),
    ("list_objects", B),
    ("list_objects_v2", {"Bucket": "nope"}),
    ("put_object", {**B, "Key": "a/b c", "Body": b"0123456789", "Metadata": {"n": "v"}}),
    ("put_object", {**B, "Key": "a/é", "Body": b"", "ContentType": "text/plain"}),
    ("put_object", {**B, "Key": "a-b", "Body": b"1", "CacheControl": "no-store"}),
    ("put_object", {**B, "Key": "b/1", "Body": b"1", "ContentEncoding": "gzip"}),
    ("put_object", {**B, "Key": "b/2", "Body": b"2", "ContentDisposition": "inline"}),
    ("put_object", {**B, "Key": "c%2F+d", "Body": b"2", "ContentLanguage": "de"}),
    ("put_object", {"Bucket": "nope", "Key": "k", "Body": b""}),
    ("create_bucket", {"Bucket": "other"}),
    ("put_object", {"Bucket": "other", "Key": "k" * 1025, "Body": b""}),
    ("put_object", {**B, "Key": "a-b", "Body": b"", "IfNoneMatch": "*"}),
    ("put_object", {**B, "Key": "a-b", "Body": b"", "IfMatch": '"other"'}),
    ("put_object", {"Bucket": "other", "Key": "k", "Body": b"x", "ContentMD5": f"{'A' * 22}=="}),
    ("get_object", {**B, "Key": "a/b c"}),
    ("get_object", {**B, "Key": "nope"}),
    ("get_object", {**B, "Key": "a/b c", "Range": "bytes=2-4"}),
    ("get_object", {**B, "Key": "a/b c", "Range": "bytes=7-"}),
    ("get_object", {**B, "Key": "a/b c", "Range": "bytes=-2"}),
    ("get_object", {**B, "Key": "a/b c", "Range": "bytes=7-99"}),
    ("get_object", {**B, "Key": "a/b c", "Range": "bytes=10-"}),
    ("get_object", {**B, "Key": "a/b c", "ResponseContentType": "x/y"}),
    ("get_object", {**B, "Key": "a/b c", "IfMatch": '"other"'}),
    ("get_object", {**B, "Key": "a/b c", "IfNoneMatch": '"781e5e245d69b566979b86e28d23f2c7"'}),
    ("get_object", {**B, "Key": "a/b c", "IfModifiedSince": DATE}),
    ("get_object", {**B, "Key": "a/b c", "IfUnmodifiedSince": EARLY}),
    ("head_object", {**B, "Key": "b/1"}),
    ("head_object", {**B, "Key": "b/2"}),
    ("head_object", {**B, "Key": "a-b"}),
    ("head_object", {**B, "Key": "nope"}),
    ("get_object_attributes", {**B, "Key": "b/1", "ObjectAttributes": ["ETag", "ObjectSize"]}),
    ("list_objects_v2", B),
    ("list_objects", B),
    ("list_objects_v2", {**B, "Prefix": "a"}),
    ("list_objects_v2", {**B, "Prefix": "a/"}),
    ("list_objects_v2", {**B, "Delimiter": "/"}),
    ("list_objects_v2", {**B, "Delimiter": "/", "Prefix": "a"}),
    ("list_objects_v2", {**B, "StartAfter": "a/b c"}),
    ("list_objects_v2", {**B, "MaxKeys": 2, "FetchOwner": True}),
    ("list_objects_v2", {**B, "MaxKeys": 0}),
    ("list_objects", {**B, "Delimiter": "/", "MaxKeys": 2}),
    ("list_objects", {**B, "Marker": "a/b c"}),
    ("list_object_versions", {**B, "Prefix": "a/"}),
    ("copy_object", {**B, "Key": "copy", "CopySource": SOURCE}),
    ("copy_object", {**B, "Key": "a/b c", "CopySource": SOURCE}),
    ("copy_object", {**B, "Key": "k", "CopySource": {"Bucket": "bucket", "Key": "nope"}}),
    ("copy_object", {**B, "Key": "k", "CopySource": {"Bucket": "nope", "Key": "k"}}),
    (
        "copy_object",
        {
            **B,
            "Key": "a/b c",
            "CopySource": SOURCE,
            "MetadataDirective": "REPLACE",
            "Metadata": {"m": "w"},
            "ContentType": "text/csv",
        },
    ),
    ("get_object", {**B, "Key": "copy"}),
    ("get_object", {**B, "Key": "a/b c"}),
    ("get_bucket_encryption", B),
    ("put_bucket_tagging", {**B, "Tagging": {"TagSet": TAGS}}),
    ("get_bucket_tagging", B),
    ("delete_bucket_tagging", B),
    ("put_object_tagging", {**B, "Key": "copy", "Tagging": {"TagSet": TAGS}}),
    ("get_object_tagging", {**B, "Key": "copy"}),
    ("get_object", {**B, "Key": "copy"}),
    ("delete_object_tagging", {**B, "Key": "copy"}),
    ("put_object", {"Bucket": "other", "Key": "t", "Body": b"", "Tagging": "a=b&c=d"}),
    ("head_object", {"Bucket": "other", "Key": "t"}),
    ("put_object", {"Bucket": "other", "Key": "t", "Body": b"", "StorageClass": "STANDARD_IA"}),
    ("head_object", {"Bucket": "other", "Key": "t"}),
    ("list_objects_v2", {"Bucket": "other", "Prefix": "t"}),
    ("put_object", {"Bucket": "other", "Key": "u", "Body": b"", "StorageClass": "FOO"}),
    ("create_multipart_upload", {**B, "Key": "big", "Metadata": {"n": "v"}}),
    ("upload_part", {**B, "Key": "big", "PartNumber": 1, "Body": FIVE}),
    ("upload_part", {**B, "Key": "big", "PartNumber": 2, "Body": b"tail"}),
    ("upload_part_copy", {**B, "Key": "big", "PartNumber": 3, "CopySource": SOURCE}),
    ("upload_part", {**B, "Key": "big", "PartNumber": 1, "UploadId": "nope", "Body": b""}),
    ("list_parts", {**B, "Key": "big"}),
    ("list_multipart_uploads", B),
    ("complete_multipart_upload", {**B, "Key": "big", "parts": [(2, "tail"), (1, "x")]}),
    ("complete_multipart_upload", {**B, "Key": "big", "parts": [(1, 1), (4, 1)]}),
    ("complete_multipart_upload", {**B, "Key": "big", "parts": [(2, 2), (3, 3)]}),
    ("complete_multipart_upload", {**B, "Key": "big", "parts": [(1, 1), (2, 2)]}),
    ("head_object", {**B, "Key": "big"}),
    ("get_object", {**B, "Key": "big", "PartNumber": 2}),
    ("create_multipart_upload", {**B, "Key": "gone"}),
    ("abort_multipart_upload", {**B, "Key": "gone"}),
    ("list_multipart_uploads", B),
    ("delete_object", {**B, "Key": "nope"}),
    ("delete_object", {**B, "Key": "a-b"}),
    ("delete_bucket", B),
    ("delete_objects", {**B, "Delete": {"Objects": [{"Key": "b/1"}, {"Key": "b/2"}]}}),
    ("delete_objects", {**B, "Delete": {"Objects": [{"Key": "big"}], "Quiet": True}}),
    ("list_objects_v2", B),
    ("delete_bucket", {"Bucket": "nope"}),
]

_KEY = "k" * 1025

DIFFERENCES = {
    "create_bucket Bucket=Not_Legal": (["Location", "error", "status"], "moto takes any name"),
    "head_bucket": (["AccessPointAlias"], "S3 sends x-amz-access-point-alias, moto does not"),
    "get_public_access_block": (
        ["PublicAccessBlockConfiguration", "error", "status"],
        "since April 2023 every new bucket has one",
    ),
    "get_bucket_encryption": (
        ["ServerSideEncryptionConfiguration", "error", "status"],
        "since January 2023 every bucket has one",
    ),
    "get_bucket_request_payment": (["Payer"], "moto answers with a list of buckets"),
    f"put_object Bucket=other Key={_KEY}": (
        ["ChecksumCRC32", "ETag", "error", "status"],
        "moto takes any length; the limit is 1024 bytes",
    ),
    "put_object Bucket=other Key=k ContentMD5=AAAAAAAAAAAAAAAAAAAAAA==": (
        ["ChecksumCRC32", "ETag", "error", "status"],
        "moto does not look at Content-MD5",
    ),
    "list_objects Delimiter=/ MaxKeys=2": (
        ["CommonPrefixes", "Contents", "IsTruncated", "NextMarker"],
        "S3 counts keys and prefixes together, in their order; moto gives two of each",
    ),
    "list_objects Marker=a/b c": (["Marker"], "S3 gives it back"),
    "upload_part Key=big PartNumber=1 UploadId=nope": (["error", "status"], "moto fails (500)"),
    "complete_multipart_upload Key=big parts=[(2, 'tail'), (1, 'x')]": (
        ["error"],
        "both things are wrong with it; S3's reference lists InvalidPartOrder for the order",
    ),
    "complete_multipart_upload Key=big parts=[(1, 1), (2, 2)]": (
        ["Location", "VersionId"],
        "where it is, and no version in an unversioned bucket",
    ),
    "get_object Key=big PartNumber=2": (
        ["Body", "ContentLength", "ContentRange", "PartsCount", "status"],
        "moto sends the whole object",
    ),
    "delete_objects": (["Deleted"], "Quiet: S3 tells of failures only"),
}
"""Fields that differ, and why; the second `delete_objects` is the one that is quiet."""

_PASSING = {
    *("ResponseMetadata", "LastModified", "Initiated", "UploadId", "ID", "DisplayName"),
    "NextContinuationToken",  # opaque
    # moto does not say what every bucket and object of S3 has.
    *("BucketArn", "ServerSideEncryption", "BucketKeyEnabled"),
    # moto knows no type of a checksum, and in v1's list no algorithm either.
    *("ChecksumType", "ChecksumAlgorithm", "EncodingType"),
}


@pytest.fixture(scope="module")
def moto():
    with oracle.running() as url:
        yield make_client("s3", url, KEYS, region="us-east-1")


def test_answers_agree_with_moto(region, moto):
    ours, theirs = Side(region.client("s3")), Side(moto)
    found = {}
    details = []
    for operation, parameters in REQUESTS:
        mine, other = ours.ask(operation, parameters), theirs.ask(operation, parameters)
        fields = sorted(key for key in {*mine, *other} if mine.get(key) != other.get(key))
        if fields:
            found[_label(operation, parameters)] = fields
            details += [(operation, key, mine.get(key), other.get(key)) for key in fields]
    expected = {label: fields for label, (fields, _) in DIFFERENCES.items()}
    assert found == expected, details


class Side:
    def __init__(self, client):
        self.client = client
        self.upload = ""
        self.etags = {}

    def ask(self, operation, parameters):
        parameters = dict(parameters)
        if "parts" in parameters:
            parameters["MultipartUpload"] = {
                "Parts": [
                    {"PartNumber": number, "ETag": self.etags.get(number, '"0"')}
                    for number, _ in parameters.pop("parts")
                ]
            }
        if operation in {
            "upload_part",
            "upload_part_copy",
            "list_parts",
            "complete_multipart_upload",
            "abort_multipart_upload",
        }:
            parameters.setdefault("UploadId", self.upload)
        try:
            answer = getattr(self.client, operation)(**parameters)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            return {"error": code, "status": error.response["ResponseMetadata"]["HTTPStatusCode"]}
        self.upload = answer.get("UploadId", self.upload)
        if operation.startswith("upload_part"):
            result = answer.get("CopyPartResult", answer)
            self.etags[parameters["PartNumber"]] = result["ETag"]
        if "Body" in answer:
            answer["Body"] = answer["Body"].read()
        status = answer["ResponseMetadata"]["HTTPStatusCode"]
        return {"status": status, **_lasting(answer)}


def _lasting(value):
    """Return the answer without what differs each time, or is of no concern."""
    if isinstance(value, dict):
        kept = {key: _lasting(item) for key, item in value.items() if key not in _PASSING}
        return {key: item for key, item in kept.items() if item != ""}  # absent and empty are one
    if isinstance(value, list):
        return [_lasting(item) for item in value]
    return value


def _label(operation, parameters):
    shown = (
        f"{key}={value}"
        for key, value in parameters.items()
        if key not in {"Body", "Delete"} and (key, value) != ("Bucket", "bucket")
    )
    return " ".join([operation, *shown])
