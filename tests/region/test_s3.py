"""S3 through an unmodified client: what a launch script does with it."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from tests.region.conftest import CheckedRegion, peak_memory

from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.core.account import Account, read_keys
from sagemaker_byoc.region.region import Region

SPECIAL = ["a", "a/", "a/b", "a//b", "..", "b c+d%20é.txt", "😀", "x" * 1024, "\x01"]


@pytest.fixture(scope="module")
def s3(region):
    return region.client("s3")


@pytest.fixture
def bucket(s3, request):
    name = f"b-{hashlib.sha256(request.node.name.encode()).hexdigest()[:20]}"
    s3.create_bucket(Bucket=name)
    return name


def listed(s3, bucket, **parameters):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **parameters)
    return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


def test_objects_of_any_key(s3, bucket):
    for key in SPECIAL:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode(), Metadata={"n": "v"})
    assert listed(s3, bucket, PaginationConfig={"PageSize": 2}) == sorted(SPECIAL, key=str.encode)
    for key in SPECIAL:
        answer = s3.get_object(Bucket=bucket, Key=key)
        assert answer["Body"].read() == key.encode()
        assert answer["Metadata"] == {"n": "v"}
        assert answer["ETag"] == f'"{hashlib.md5(key.encode()).hexdigest()}"'


def test_an_upload_in_parts_is_checked_and_comes_back(s3, bucket):
    data = [os.urandom(5 << 20), os.urandom(5 << 20), b"tail"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big", ChecksumAlgorithm="CRC32")
    here = {"Bucket": bucket, "Key": "big", "UploadId": upload["UploadId"]}
    sent = [
        s3.upload_part(PartNumber=n, Body=part, ChecksumAlgorithm="CRC32", **here)
        for n, part in enumerate(data, 1)
    ]
    parts = [
        {"PartNumber": n, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}
        for n, part in enumerate(sent, 1)
    ]
    found = s3.list_parts(MaxParts=2, **here)
    assert [part["Size"] for part in found["Parts"]] == [5 << 20, 5 << 20]
    assert found["IsTruncated"]
    assert s3.list_multipart_uploads(Bucket=bucket)["Uploads"][0]["Key"] == "big"
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **here)
    assert done["ETag"].endswith('-3"')
    head = s3.head_object(Bucket=bucket, Key="big", ChecksumMode="ENABLED")
    assert head["ChecksumCRC32"] == done["ChecksumCRC32"]
    assert s3.get_object(Bucket=bucket, Key="big")["Body"].read() == b"".join(data)
    part = s3.get_object(Bucket=bucket, Key="big", PartNumber=3)
    assert (part["Body"].read(), part["PartsCount"]) == (b"tail", 3)
    attributes = s3.get_object_attributes(
        Bucket=bucket, Key="big", ObjectAttributes=["ETag", "ObjectSize", "ObjectParts"]
    )
    assert attributes["ObjectParts"]["TotalPartsCount"] == 3


def test_the_crc_of_a_whole_upload(s3, bucket):
    data = [os.urandom(5 << 20), b"tail"]
    upload = s3.create_multipart_upload(
        Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT"
    )
    here = {"Bucket": bucket, "Key": "k", "UploadId": upload["UploadId"]}
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(PartNumber=n, Body=part, **here)["ETag"]}
        for n, part in enumerate(data, 1)
    ]
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **here)
    s3.put_object(Bucket=bucket, Key="whole", Body=b"".join(data))
    whole = s3.head_object(Bucket=bucket, Key="whole", ChecksumMode="ENABLED")
    assert done["ChecksumCRC32"] == whole["ChecksumCRC32"]
    assert done["ChecksumType"] == "FULL_OBJECT"


def test_copies(s3, bucket):
    s3.put_object(
        Bucket=bucket, Key="a é", Body=b"x", Metadata={"n": "v"}, ContentType="text/plain"
    )
    source = {"Bucket": bucket, "Key": "a é"}
    s3.copy_object(Bucket=bucket, Key="b", CopySource=source)
    assert s3.head_object(Bucket=bucket, Key="b")["Metadata"] == {"n": "v"}
    s3.copy_object(
        Bucket=bucket, Key="a é", CopySource=source, Metadata={}, MetadataDirective="REPLACE"
    )
    assert s3.head_object(Bucket=bucket, Key="a é")["Metadata"] == {}
    with pytest.raises(ClientError, match=r"InvalidRequest.*copy an object to itself"):
        s3.copy_object(Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "b"})
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.copy_object(Bucket=bucket, Key="c", CopySource=source, CopySourceIfMatch='"other"')


def test_delete_many(s3, bucket):
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"k{number}", Body=b"")
    names = [{"Key": f"k{number}"} for number in range(4)]
    gone = s3.delete_objects(Bucket=bucket, Delete={"Objects": [*names, {"Key": "never"}]})
    assert len(gone["Deleted"]) == 5, "what is not there is deleted already"
    assert listed(s3, bucket) == ["k4"]
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k4"}], "Quiet": True})
    assert "Deleted" not in quiet
    s3.delete_bucket(Bucket=bucket)
    with pytest.raises(ClientError, match="404"):
        s3.head_bucket(Bucket=bucket)


def test_presigned(s3, bucket):
    parameters = {"Bucket": bucket, "Key": "a b"}
    url = s3.generate_presigned_url("put_object", Params=parameters)
    # Version 2 signs the content type, and this client sends one if none is given.
    request = urllib.request.Request(url, data=b"x", method="PUT", headers={"Content-Type": ""})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    url = s3.generate_presigned_url(
        "get_object", Params={**parameters, "ResponseContentType": "text/csv"}
    )
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert (answer.read(), answer.headers["content-type"]) == (b"x", "text/csv")
    expired = s3.generate_presigned_url("get_object", Params=parameters, ExpiresIn=-10)
    with pytest.raises(urllib.error.HTTPError, match="403") as error:
        urllib.request.urlopen(expired, timeout=10)
    error.value.close()


def test_settings_that_clients_look_at(s3, bucket):
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    assert s3.get_bucket_acl(Bucket=bucket)["Grants"][0]["Permission"] == "FULL_CONTROL"
    assert s3.list_object_versions(Bucket=bucket).get("Versions") is None
    for call, code in (
        (s3.get_bucket_policy, "NoSuchBucketPolicy"),
        (s3.get_bucket_tagging, "NoSuchTagSet"),
    ):
        with pytest.raises(ClientError, match=code):
            call(Bucket=bucket)
    block = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert list(block.values()) == [True] * 4
    encryption = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]
    (rule,) = encryption["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    ownership = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]
    assert ownership["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    with pytest.raises(ClientError, match=r"NotImplemented.*PUT \?policy"):
        s3.put_bucket_policy(Bucket=bucket, Policy="{}")


def test_a_region_answers_by_its_own_name():
    with CheckedRegion(account=Account(region="eu-central-1")) as region:
        s3, ecr, logs = (region.client(name) for name in ("s3", "ecr", "logs"))
        here = {"LocationConstraint": "eu-central-1"}
        s3.create_bucket(Bucket="there", CreateBucketConfiguration=here)
        assert s3.get_bucket_location(Bucket="there")["LocationConstraint"] == "eu-central-1"
        assert s3.head_bucket(Bucket="there")["BucketRegion"] == "eu-central-1"
        repository = ecr.create_repository(repositoryName="there")["repository"]
        assert repository["repositoryArn"].startswith("arn:aws:ecr:eu-central-1:")
        logs.create_log_group(logGroupName="there")
        (group,) = logs.describe_log_groups()["logGroups"]
        assert group["arn"].startswith("arn:aws:logs:eu-central-1:")


def test_tags(s3, bucket):
    tags = [{"Key": "a", "Value": "b"}]
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=b")
    assert s3.get_object(Bucket=bucket, Key="k")["TagCount"] == 1
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tags
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": []})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    s3.delete_bucket_tagging(Bucket=bucket)


def test_a_form(s3, bucket):
    """As a browser sends it, from what generate_presigned_post makes."""
    form = s3.generate_presigned_post(bucket, "in/${filename}", ExpiresIn=60)
    lines = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in form["fields"].items()
    ]
    lines.append('--b\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\n\r\n')
    data = os.urandom(3 << 20)
    body = "".join(lines).encode() + data + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    request = urllib.request.Request(form["url"], data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 204
    assert s3.get_object(Bucket=bucket, Key="in/f.txt")["Body"].read() == data


def test_conditions_of_a_deletion(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    time = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    for wrong in ({"ETag": '"other"'}, {"Size": 2}, {"LastModifiedTime": "2001-01-01T00:00:00Z"}):
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", **wrong}]})
        assert answer["Errors"][0]["Code"] == "PreconditionFailed"
    right = {"Key": "k", "ETag": etag, "Size": 1, "LastModifiedTime": time}
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [right]})
    assert answer["Deleted"] == [{"Key": "k"}]


def test_a_part_that_was_damaged_on_its_way_is_refused(s3, bucket):
    with pytest.raises(ClientError, match="BadDigest"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ChecksumCRC32="AAAAAA==")
    digest = base64.b64encode(hashlib.md5(b"y").digest()).decode()
    with pytest.raises(ClientError, match="BadDigest"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5=digest)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_object(s3, bucket, tmp_path):
    """One put, its copy and its get, of 256 MiB; the region is in this process, the client too."""
    size = 256 << 20
    source = tmp_path / "source"
    with open(source, "wb") as file:
        file.truncate(size)
    before = peak_memory()
    with open(source, "rb") as file:
        s3.put_object(Bucket=bucket, Key="k", Body=file)
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"})
    body = s3.get_object(Bucket=bucket, Key="copy")["Body"]
    assert sum(len(chunk) for chunk in body.iter_chunks(1 << 20)) == size
    assert peak_memory() - before < size // 8


KILLED = """
import sys
from sagemaker_byoc.region.region import Region
with Region(sys.argv[1]) as region:
    print(region.url, flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_region_that_is_killed_keeps_what_it_acknowledged(tmp_path):
    """Ten clients put while it is killed; the next region has every object, whole."""
    state = tmp_path / "state"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        keys = read_keys(state)
        assert keys is not None
        make_client("s3", url, keys, region="us-east-1").create_bucket(Bucket="kill-bucket")

        def put(thread):
            acknowledged = []
            s3 = make_client("s3", url, keys, region="us-east-1")
            try:
                for number in range(10_000):
                    key, data = f"{thread}/{number}", f"{thread}-{number}-".encode() * 300
                    s3.put_object(Bucket="kill-bucket", Key=key, Body=data, Metadata={"n": key})
                    acknowledged.append((key, data))
                    if thread == 0 and number == 50:
                        process.send_signal(signal.SIGKILL)
            except (OSError, BotoCoreError, HTTPClientError):
                return acknowledged
            return acknowledged

        with ThreadPoolExecutor(10) as threads:
            acknowledged = [pair for found in threads.map(put, range(10)) for pair in found]
    assert len(acknowledged) > 50
    with Region(state) as region:
        s3 = region.client("s3")
        assert {key for key, _ in acknowledged} <= set(listed(s3, "kill-bucket"))
        for key, data in acknowledged:
            answer = s3.get_object(Bucket="kill-bucket", Key=key)
            assert (answer["Body"].read(), answer["Metadata"]) == (data, {"n": key})
