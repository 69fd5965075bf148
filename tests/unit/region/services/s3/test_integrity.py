"""Conditions and checksums that a client sends along: each is held to."""

from __future__ import annotations

import base64
import hashlib
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from tests.unit.region.services.s3.conftest import Server

from sagemaker_byoc.region.services.s3.store import multipart
from sagemaker_byoc.region.services.s3.store.multipart import Uploads, Wanted
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import Attributes

ETAG = f'"{hashlib.md5(b"0123456789").hexdigest()}"'


def crc32(data):
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


@pytest.fixture
def object_(server):
    server.store.put_bytes("bucket", "k", b"0123456789")
    return server


def delete_many(server, *entries):
    objects = "".join(f"<Object><Key>k</Key>{entry}</Object>" for entry in entries)
    body = f"<Delete>{objects}</Delete>".encode()
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    return server("POST", "/bucket", body, query="delete", content_md5=digest)


def modified(server):
    return server.store.get("bucket", "k").info.modified


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ('<ETag>"other"</ETag>', "PreconditionFailed"),
        (f"<ETag>{ETAG}</ETag>", None),
        (f"<ETag>{ETAG[1:-1]}</ETag>", None),
        ("<ETag>*</ETag>", None),
        ("<Size>9</Size>", "PreconditionFailed"),
        ("<Size>10</Size>", None),
        ("<Size>x</Size>", "InvalidArgument"),
        ("<LastModifiedTime>2001-01-01T00:00:00Z</LastModifiedTime>", "PreconditionFailed"),
        ("<LastModifiedTime>Mon, 01 Jan 2001 00:00:00 GMT</LastModifiedTime>",
         "PreconditionFailed"),
        ("<LastModifiedTime>soon</LastModifiedTime>", "InvalidArgument"),
        ("<VersionId>abc</VersionId>", "NoSuchVersion"),
        ("<VersionId>null</VersionId>", None),
    ],
)  # fmt: skip
def test_each_deletion_of_many_has_its_own_conditions(object_, entry, code):
    answer = delete_many(object_, entry)
    assert answer.xml.findtext("{*}Error/{*}Code") == code
    assert (answer.xml.find("{*}Deleted") is not None) == (code is None)
    assert object_("HEAD", "/bucket/k").status == (404 if code is None else 200)


def test_deletion_by_time(object_):
    time = format_datetime(modified(object_), usegmt=True)
    headers = {"x-amz-if-match-last-modified-time": time, "x-amz-if-match-size": "10"}
    wrong = {**headers, "x-amz-if-match-size": "9"}
    assert object_("DELETE", "/bucket/k", headers=wrong).code == "PreconditionFailed"
    early = {"x-amz-if-match-last-modified-time": "Mon, 01 Jan 2001 00:00:00 GMT"}
    assert object_("DELETE", "/bucket/k", headers=early).code == "PreconditionFailed"
    assert object_("DELETE", "/bucket/k", headers=headers).status == 204
    assert object_("DELETE", "/bucket/k", if_match=ETAG).code == "NoSuchKey"
    assert object_("DELETE", "/bucket/k").status == 204


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("if-match", ETAG, 200),
        ("if-match", '"other"', 412),
        ("if-none-match", ETAG, 412),
        ("if-none-match", '"other"', 200),
        ("if-modified-since", timedelta(days=1), 412),
        ("if-modified-since", timedelta(days=-1), 200),
        ("if-unmodified-since", timedelta(days=-1), 412),
        ("if-unmodified-since", timedelta(days=1), 200),
    ],
)
def test_a_copy_has_conditions_on_its_source(object_, name, value, status):
    """And so has a part of one."""
    if isinstance(value, timedelta):
        value = format_datetime(datetime.now(UTC) + value, usegmt=True)
    headers = {"x-amz-copy-source": "bucket/k", f"x-amz-copy-source-{name}": value}
    assert object_("PUT", "/bucket/copy", headers=headers).status == status
    part = object_("PUT", "/bucket/big", query=f"{begin(object_)}&partNumber=1", headers=headers)
    assert part.status == status


def begin(server, key="big", **headers):
    """The query that names a new upload."""
    answer = server("POST", f"/bucket/{key}", query="uploads", headers=headers)
    return "uploadId=" + answer.xml.findtext("{*}UploadId")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("bytes=0-2", None),
        ("bytes=9-9", None),
        ("0-2", "InvalidArgument"),
        ("bytes=0-bar", "InvalidArgument"),
        ("bytes=hello-", "InvalidArgument"),
        ("bytes=0-", "InvalidArgument"),
        ("bytes=-3", "InvalidArgument"),
        ("bytes=0", "InvalidArgument"),
        ("bytes=3-1", "InvalidArgument"),
        ("bytes=0-2,4-5", "InvalidArgument"),
        (" bytes=0-2", "InvalidArgument"),
        ("bytes=0-99", "InvalidRange"),
        ("bytes=10-10", "InvalidRange"),
    ],
)
def test_the_range_of_a_copied_part(object_, given, code):
    query = begin(object_)
    headers = {"x-amz-copy-source": "bucket/k", "x-amz-copy-source-range": given}
    answer = object_("PUT", "/bucket/big", query=f"{query}&partNumber=1", headers=headers)
    assert (answer.code if answer.status >= 300 else None) == code
    sizes = [int(size.text) for size in object_("GET", "/bucket/big", query=query).xml.iterfind(
        "{*}Part/{*}Size")]  # fmt: skip
    assert sizes == ([] if code else [int(given[8:]) - int(given[6]) + 1])


def send(server, query, data=b"0123456789", number=1, **headers):
    headers = {"content-length": str(len(data)), **headers}
    return server("PUT", "/bucket/big", data, query=f"{query}&partNumber={number}", headers=headers)


def complete(server, query, parts, key="big", **headers):
    """`parts` are ETags, or whole elements."""
    inner = "".join(
        f"<Part><PartNumber>{number}</PartNumber>"
        + (part if part.startswith("<") else f"<ETag>{part}</ETag>")
        + "</Part>"
        for number, part in enumerate(parts, 1)
    )
    body = f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()
    headers = {"content-length": str(len(body)), **headers}
    return server("POST", f"/bucket/{key}", body, query=query, headers=headers)


WHOLE = {"x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-type": "FULL_OBJECT"}
PARTS = {"x-amz-checksum-algorithm": "CRC32"}
DATA = b"0123456789"


@pytest.mark.parametrize(
    ("begun", "headers", "code"),
    [
        (WHOLE, {"x-amz-checksum-crc32": crc32(DATA)}, None),
        (WHOLE, {"x-amz-checksum-crc32": "AAAAAA=="}, "BadDigest"),
        (WHOLE, {"x-amz-checksum-sha256": "AAAA"}, "InvalidRequest"),
        (WHOLE, {"x-amz-checksum-type": "COMPOSITE"}, "InvalidRequest"),
        (WHOLE, {"x-amz-checksum-type": "FULL_OBJECT"}, None),
        ({}, {"x-amz-checksum-crc32": crc32(DATA)}, None),
        ({}, {"x-amz-checksum-crc32": "AAAAAA=="}, "BadDigest"),
        ({}, {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}, "BadDigest"),
        ({}, {"x-amz-mp-object-size": "10"}, None),
        ({}, {"x-amz-mp-object-size": "11"}, "InvalidRequest"),
        ({}, {"if-none-match": "*"}, None),
        ({}, {"if-match": '"other"'}, "NoSuchKey"),
    ],
)
def test_what_is_said_of_the_whole_is_held_to(server, begun, headers, code):
    query = begin(server, **begun)
    etag = send(server, query).headers["ETag"]
    answer = complete(server, query, [etag], **headers)
    assert (answer.code if answer.status >= 300 else None) == code
    assert server("HEAD", "/bucket/big").status == (404 if code else 200)
    if code:
        assert complete(server, query, [etag]).status == 200, "the upload is kept"


def test_an_upload_that_must_not_replace(server):
    query = begin(server)
    etag = send(server, query).headers["ETag"]
    server.store.put_bytes("bucket", "big", b"there")
    assert complete(server, query, [etag], **{"if-none-match": "*"}).code == "PreconditionFailed"
    assert complete(server, query, [etag], **{"if-match": '"other"'}).code == "PreconditionFailed"
    assert server("GET", "/bucket/big").body == b"there"


def test_parts_of_another_algorithm(server):
    query = begin(server, **PARTS)
    wrong = {"x-amz-checksum-sha1": base64.b64encode(hashlib.sha1(DATA).digest()).decode()}
    refused = send(server, query, **wrong)
    assert refused.code == "InvalidRequest"
    assert "expected checksum Type: crc32, actual checksum Type: sha1" in refused.body.decode()
    part = send(server, query)
    etag, checksum = part.headers["ETag"], part.headers["x-amz-checksum-crc32"]
    named = f"<ETag>{etag}</ETag>"
    for more, code in (
        ("<ChecksumSHA1>AAAA</ChecksumSHA1>", "InvalidRequest"),
        ("<ChecksumXXHASH3>AAAA</ChecksumXXHASH3>", "NotImplemented"),
        ("<ChecksumCRC32>AAAAAA==</ChecksumCRC32>", "InvalidPart"),
        ("", "InvalidRequest"),
    ):
        assert complete(server, query, [named + more]).code == code
    done = complete(server, query, [f"{named}<ChecksumCRC32>{checksum}</ChecksumCRC32>"])
    assert done.xml.findtext("{*}ChecksumType") == "COMPOSITE"


def test_a_completion_that_is_sent_again_has_the_first_answer(server, tmp_path):
    """The client never saw the first; the region may have been restarted in between."""
    query = begin(server, **WHOLE, **{"x-amz-server-side-encryption": "aws:kms"})
    etag = send(server, query).headers["ETag"]
    first = complete(server, query, [etag], **{"if-none-match": "*"})
    server.store.put_bytes("bucket", "big", b"put since")
    restarted = Server(ObjectStore(tmp_path / "s3"))
    for side in (server, restarted):
        again = complete(side, query, [etag], **{"if-none-match": "*"})
        assert (again.status, again.body, again.headers) == (200, first.body, first.headers)
    assert server("GET", "/bucket/big").body == b"put since"
    assert complete(server, query, ['"other"']).code == "NoSuchUpload"
    assert complete(server, query, [etag], key="else").code == "NoSuchUpload"
    assert server("DELETE", "/bucket/big", query=query).code == "NoSuchUpload"
    assert send(server, query).code == "NoSuchUpload"
    restarted.s3.close()


def test_a_completion_sent_again_waits_for_the_first(server, monkeypatch):
    """A client whose connection broke may ask while the first is still being carried out."""
    query = begin(server)
    etag = send(server, query).headers["ETag"]
    commit = server.store.commits.run
    first, go = threading.Event(), threading.Event()

    def slow(*arguments):
        first.set()
        assert go.wait(10)
        return commit(*arguments)

    monkeypatch.setattr(server.store.commits, "run", slow)
    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(complete, server, query, [etag])]
        assert first.wait(10)
        answers.append(threads.submit(complete, server, query, [etag]))
        go.set()
    assert [answer.result().status for answer in answers] == [200, 200]
    assert answers[0].result().body == answers[1].result().body


def test_what_an_upload_began_with_is_its_objects(server):
    query = begin(
        server,
        **{
            "x-amz-tagging": "a=b",
            "x-amz-storage-class": "STANDARD_IA",
            "x-amz-meta-m": "n",
            "cache-control": "no-store",
        },
    )
    for listed in (
        server("GET", "/bucket/big", query=query).xml,
        server("GET", "/bucket", query="uploads").xml.find("{*}Upload"),
    ):
        assert listed.findtext("{*}StorageClass") == "STANDARD_IA"
    etag = send(server, query).headers["ETag"]
    assert complete(server, query, [etag]).status == 200
    head = server("HEAD", "/bucket/big").headers
    assert head["x-amz-tagging-count"] == "1"
    assert head["x-amz-storage-class"] == "STANDARD_IA"
    assert head["x-amz-meta-m"] == "n"
    assert head["cache-control"] == "no-store"


def test_first_answers_are_kept_for_the_last_uploads_only(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)
    monkeypatch.setattr(multipart, "MAX_RECEIPTS", 3)
    store = ObjectStore(tmp_path / "s3")
    store.create_bucket("bucket")
    uploads = Uploads(store)
    done = []
    for _ in range(5):
        upload = uploads.create("bucket", "k", Attributes(etag=""), "")
        writer = uploads.open_part("bucket", upload, 1, 1)
        writer.write(b"x")
        wanted = [Wanted(1, writer.commit("").etag)]
        uploads.complete("bucket", upload, wanted, None)
        done.append((upload.id, wanted))
    found = [uploads.completed("bucket", "k", *one) is not None for one in done]
    assert found == [False] * 2 + [True] * 3
    assert uploads.all("bucket") == []


def test_an_abortion_of_the_upload_that_is_meant(server):
    query = begin(server)
    listed = server("GET", "/bucket", query="uploads").xml.findtext("{*}Upload/{*}Initiated")
    begun = datetime.fromisoformat(listed)
    name = "x-amz-if-match-initiated-time"
    late = {name: format_datetime(begun + timedelta(seconds=1), usegmt=True)}
    assert server("DELETE", "/bucket/big", query=query, headers=late).code == "PreconditionFailed"
    right = {name: format_datetime(begun, usegmt=True)}
    assert server("DELETE", "/bucket/big", query=query, headers=right).status == 204


def test_uploads_under_a_delimiter(server):
    for key in ("a/1", "a/2", "b", "c/1"):
        begin(server, key)
    page = server("GET", "/bucket", query="uploads&delimiter=/").xml
    assert [node.text for node in page.iterfind("{*}Upload/{*}Key")] == ["b"]
    prefixes = [node.text for node in page.iterfind("{*}CommonPrefixes/{*}Prefix")]
    assert prefixes == ["a/", "c/"]
    page = server("GET", "/bucket", query="uploads&delimiter=/&max-uploads=1").xml
    assert page.findtext("{*}IsTruncated") == "true"
    assert page.findtext("{*}NextKeyMarker") == "a/2"


def test_the_parts_of_an_object(server):
    big = bytes(5 << 20)
    query = begin(server, **PARTS)
    sent = [send(server, query, data, number) for number, data in enumerate([big, DATA], 1)]
    parts = [
        f"<ETag>{part.headers['ETag']}</ETag>"
        f"<ChecksumCRC32>{part.headers['x-amz-checksum-crc32']}</ChecksumCRC32>"
        for part in sent
    ]
    assert complete(server, query, parts).status == 200
    asked = {"x-amz-object-attributes": "ObjectParts,Checksum"}
    found = server("GET", "/bucket/big", query="attributes", headers=asked).xml
    assert found.findtext("{*}Checksum/{*}ChecksumType") == "COMPOSITE"
    about = found.find("{*}ObjectParts")
    names = ("PartsCount", "PartNumberMarker", "NextPartNumberMarker", "MaxParts", "IsTruncated")
    assert [about.findtext(f"{{*}}{name}") for name in names] == ["2", "0", "2", "1000", "false"]
    assert [part.findtext("{*}Size") for part in about.iterfind("{*}Part")] == ["5242880", "10"]
    one = {**asked, "x-amz-max-parts": "1"}
    about = server("GET", "/bucket/big", query="attributes", headers=one).xml.find("{*}ObjectParts")
    assert [about.findtext(f"{{*}}{name}") for name in names] == ["2", "0", "1", "1", "true"]
    after = {**one, "x-amz-part-number-marker": "1"}
    about = server("GET", "/bucket/big", query="attributes", headers=after).xml.find(
        "{*}ObjectParts"
    )
    assert about.findtext("{*}Part/{*}PartNumber") == "2"
    assert about.findtext("{*}Part/{*}ChecksumCRC32") == crc32(DATA)
    for method in ("GET", "HEAD"):
        part = server(method, "/bucket/big", query="partNumber=2", x_amz_checksum_mode="ENABLED")
        assert part.status == 206
        assert part.headers["x-amz-mp-parts-count"] == "2"
        assert part.headers["Content-Range"] == "bytes 5242880-5242889/5242890"
        assert part.headers["x-amz-checksum-crc32"] == crc32(DATA)
        assert server(method, "/bucket/big", query="partNumber=3").status == 416
    unknown = {"x-amz-object-attributes": "Colour"}
    assert server("GET", "/bucket/big", query="attributes", headers=unknown).code == (
        "InvalidArgument"
    )
