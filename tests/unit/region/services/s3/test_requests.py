"""What S3 says to odd requests, which SDKs would not send or not let through."""

from __future__ import annotations

import base64
import hashlib
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from tests.unit.region.services.s3.conftest import Body

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


def crc32(data):
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def chunked(data, trailer):
    return b"%x\r\n%s\r\n0\r\n%s\r\n\r\n" % (len(data), data, trailer.encode())


def put_chunked(server, data, trailer, **headers):
    return server(
        "PUT",
        "/bucket/k",
        chunked(data, trailer),
        x_amz_content_sha256="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        x_amz_trailer="x-amz-checksum-crc32",
        x_amz_decoded_content_length=str(len(data)),
        **{"content-encoding": "gzip,aws-chunked", **headers},
    )


def test_a_trailing_checksum_is_verified(server):
    data = b"0123456789" * 300_000
    answer = put_chunked(server, data, f"x-amz-checksum-crc32:{crc32(data)}")
    assert answer.status == 200
    assert answer.headers["x-amz-checksum-crc32"] == crc32(data)
    got = server("GET", "/bucket/k", x_amz_checksum_mode="ENABLED")
    assert got.body == data
    assert got.headers["x-amz-checksum-crc32"] == crc32(data)
    assert got.headers["content-encoding"] == "gzip", "aws-chunked is not an encoding of the object"
    bad = put_chunked(server, data, f"x-amz-checksum-crc32:{crc32(b'')}")
    assert (bad.status, bad.code) == (400, "BadDigest")
    assert server("GET", "/bucket/k").body == data


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content-md5": base64.b64encode(bytes(16)).decode()}, "BadDigest"),
        ({"content-md5": "nonsense"}, "InvalidDigest"),
        ({"x-amz-checksum-sha256": "AAAA"}, "BadDigest"),
        ({"x-amz-checksum-crc64nvme": "AAAA"}, "BadDigest"),
        ({"content-length": "4"}, "IncompleteBody"),
        ({"content-length": str((5 << 30) + 1)}, "EntityTooLarge"),
        ({"content-length": "", "transfer-encoding": "chunked"}, "NotImplemented"),
        ({"x-amz-meta-a": "x" * 2048}, "MetadataTooLarge"),
        ({"if-none-match": '"etag"'}, "NotImplemented"),
        ({"if-match": '"etag"'}, "NoSuchKey"),
        ({"x-amz-tagging": "a=b&a=c"}, "InvalidTag"),
        ({"x-amz-expected-bucket-owner": "111122223333"}, "AccessDenied"),
    ],
)
def test_puts_that_are_refused_leave_nothing(server, headers, code):
    assert server("PUT", "/bucket/k", b"hello", **headers).code == code
    assert server("HEAD", "/bucket/k").status == 404
    assert not list((server.store.uploads.parent / ".new").iterdir())


@pytest.mark.parametrize("breaks", [1, 3 << 20])
def test_a_client_that_leaves_leaves_nothing(server, breaks):
    body = Body(bytes(8 << 20), breaks=breaks)
    with pytest.raises(ConnectionError):
        server("PUT", "/bucket/k", body, content_length=str(8 << 20))
    assert not list((server.store.uploads.parent / ".new").iterdir())
    assert server("HEAD", "/bucket/k").status == 404


def test_the_md5_of_a_put_is_its_etag_and_is_verified(server):
    digest = hashlib.md5(b"hello").digest()
    answer = server("PUT", "/bucket/k", b"hello", content_md5=base64.b64encode(digest).decode())
    assert answer.headers["ETag"] == f'"{digest.hex()}"'


@pytest.mark.parametrize(
    ("header", "status", "body", "content_range"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=5-", 206, b"56789", "bytes 5-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, None),
        ("bytes=-0", 416, None, None),
        ("bytes=99999999999999999999999-", 416, None, None),
        ("bytes=5-2", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
    ],
)
def test_ranges(server, header, status, body, content_range):
    server("PUT", "/bucket/k", b"0123456789")
    answer = server("GET", "/bucket/k", range=header)
    assert answer.status == status
    if status == 416:
        assert answer.code == "InvalidRange"
        assert answer.xml.findtext("ActualObjectSize") == "10"
    else:
        assert answer.body == body
        assert answer.headers.get("Content-Range") == content_range


def test_conditions_of_a_read(server):
    """RFC 9110: a tag goes before a date."""
    etag = server("PUT", "/bucket/k", b"x").headers["ETag"]
    now = datetime.now(UTC)
    before = format_datetime(now - timedelta(days=1), usegmt=True)
    after = format_datetime(now + timedelta(days=1), usegmt=True)
    for headers, status in (
        ({"if-match": etag}, 200),
        ({"if-match": f'"other", {etag}'}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": '"other"'}, 412),
        ({"if-none-match": etag}, 304),
        ({"if-none-match": f"W/{etag}"}, 304),
        ({"if-none-match": '"other"'}, 200),
        ({"if-modified-since": before}, 200),
        ({"if-modified-since": after}, 304),
        ({"if-unmodified-since": before}, 412),
        ({"if-unmodified-since": after}, 200),
        ({"if-match": etag, "if-unmodified-since": before}, 200),
        ({"if-none-match": '"other"', "if-modified-since": after}, 200),
        ({"if-modified-since": "yesterday"}, 200),
    ):
        for method in ("GET", "HEAD"):
            answer = server(method, "/bucket/k", **headers)
            assert answer.status == status, headers
            assert answer.body == b"" or method == "GET"
            if status == 304:
                assert answer.headers["ETag"] == etag
                assert answer.body == b""


@pytest.mark.parametrize("value", ["a%0d%0ab", "a%00", "%E2%82%AC"])
def test_headers_asked_for_that_no_response_can_have(server, value):
    server("PUT", "/bucket/k", b"x")
    for name in ("content-type", "content-disposition"):
        answer = server("GET", "/bucket/k", query=f"response-{name}={value}")
        assert (answer.status, answer.code) == (400, "InvalidArgument")
        assert answer.xml.findtext("ArgumentName") == f"response-{name}"
    assert server("GET", "/bucket/k", query="response-content-type=text/csv").status == 200


def test_create_only_and_replace_only(server):
    assert server("PUT", "/bucket/k", b"1", if_none_match="*").status == 200
    assert server("PUT", "/bucket/k", b"2", if_none_match="*").status == 412
    etag = server("HEAD", "/bucket/k").headers["ETag"]
    assert server("PUT", "/bucket/k", b"3", if_match='"other"').code == "PreconditionFailed"
    assert server("PUT", "/bucket/k", b"3", if_match=etag).status == 200
    assert server("DELETE", "/bucket/k", if_match=etag).status == 412
    assert server("GET", "/bucket/k").body == b"3"


@pytest.mark.parametrize("delimiter", ["/", "-", "a", "/a"])
@pytest.mark.parametrize("prefix", ["", "a", "a/", "b-"])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pages_of_any_size_give_every_key_and_prefix_once(server, delimiter, prefix, size):
    names = ["a", "a-b", "a/", "a/a", "a/b/c", "a/b/d", "aa", "b-1", "b-2-x", "b/x", "c"]
    for name in names:
        server.store.put_bytes("bucket", name, b"")
    matching = [name for name in sorted(names) if name.startswith(prefix)]
    expected = []
    for name in matching:
        end = name.find(delimiter, len(prefix))
        item = name if end < 0 else name[: end + len(delimiter)]
        if item not in expected:
            expected.append(item)
    found, token = [], ""
    for _ in range(len(names) + 1):
        query = f"list-type=2&delimiter={delimiter}&prefix={prefix}&max-keys={size}{token}"
        page = server("GET", "/bucket", query=query).xml
        keys = [e.text for e in page.iterfind(f"{NAMESPACE}Contents/{NAMESPACE}Key")]
        keys += [e.text for e in page.iterfind(f"{NAMESPACE}CommonPrefixes/{NAMESPACE}Prefix")]
        assert len(keys) == int(page.findtext(f"{NAMESPACE}KeyCount")) <= size
        found += keys
        if page.findtext(f"{NAMESPACE}IsTruncated") == "false":
            break
        token = "&continuation-token=" + page.findtext(f"{NAMESPACE}NextContinuationToken")
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("max-keys=x", "InvalidArgument"),
        ("max-keys=-1", "InvalidArgument"),
        ("list-type=3", "InvalidArgument"),
        ("list-type=2&continuation-token=%21", "InvalidArgument"),
        ("list-type=2&continuation-token=%FF", "InvalidArgument"),
        ("encoding-type=zip", "InvalidArgument"),
        ("select", "NotImplemented"),
    ],
)
def test_lists_that_are_refused(server, query, code):
    assert server("GET", "/bucket", query=query).code == code


def test_no_keys_are_asked_for(server):
    server("PUT", "/bucket/k", b"")
    page = server("GET", "/bucket", query="max-keys=0").xml
    assert page.findtext(f"{NAMESPACE}IsTruncated") == "false"
    assert page.find(f"{NAMESPACE}Contents") is None


def test_presigned_urls_expire(server):
    server("PUT", "/bucket/k", b"x")
    now = datetime.now(UTC)

    def signed(ago, seconds):
        date = (now - timedelta(seconds=ago)).strftime("%Y%m%dT%H%M%SZ")
        return f"X-Amz-Date={date}&X-Amz-Expires={seconds}&X-Amz-Signature=any"

    assert server("GET", "/bucket/k", query=signed(10, 60)).body == b"x"
    expired = server("GET", "/bucket/k", query=signed(100, 60))
    assert (expired.status, expired.code) == (403, "AccessDenied")
    assert expired.xml.findtext("Message") == "Request has expired"
    for query in ("X-Amz-Expires=60", signed(0, 604_801), signed(0, "x")):
        assert server("GET", "/bucket/k", query=query).code == "AuthorizationQueryParametersError"
    old = f"Expires={int(now.timestamp()) - 5}&Signature=any&AWSAccessKeyId=any"
    assert server("GET", "/bucket/k", query=old).code == "AccessDenied"


@pytest.mark.parametrize(
    ("request_line", "query", "status", "code"),
    [
        ("GET /bucket/nope", "", 404, "NoSuchKey"),
        ("GET /nope/k", "", 404, "NoSuchBucket"),
        ("GET /bucket/%ff", "", 400, "InvalidURI"),
        ("GET /bucket/" + "k" * 1025, "", 400, "KeyTooLongError"),
        ("POST /bucket/k", "", 405, "MethodNotAllowed"),
        ("PATCH /bucket", "", 405, "MethodNotAllowed"),
        ("PUT /bucket/k", "retention", 501, "NotImplemented"),
        ("GET /bucket/k", "versionId=abc", 404, "NoSuchVersion"),
        ("GET /bucket", "policy", 404, "NoSuchBucketPolicy"),
        ("GET /nope", "policy", 404, "NoSuchBucket"),
        ("PUT /Bad_Name", "", 400, "InvalidBucketName"),
        ("PUT /..", "", 400, "InvalidBucketName"),
        ("DELETE /.attributes", "", 404, "NoSuchBucket"),
        ("GET /..%2F", "", 404, "NoSuchBucket"),
        ("DELETE /bucket/k", "uploadId=../../x", 404, "NoSuchUpload"),
        ("PUT /bucket/k", "uploadId=abc&partNumber=0", 400, "InvalidArgument"),
        ("POST /bucket", "delete", 400, "InvalidRequest"),
    ],
)
def test_refusals(server, request_line, query, status, code):
    answer = server(*request_line.split(), query=query)
    assert (answer.status, answer.code) == (status, code)
    assert answer.xml.findtext("RequestId") == answer.headers["x-amz-request-id"] == "ID"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Delete/>",
        b"<Delete><Object/></Delete>",
        b"<Other/>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><Delete><Object><Key>&b;</Key></Object></Delete>',
        b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>",
    ],
)
def test_documents_that_are_refused(server, body):
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    answer = server("POST", "/bucket", body, query="delete", content_md5=digest)
    assert answer.code == "MalformedXML"


def test_a_head_has_no_body(server):
    for target in ("/bucket/nope", "/nope"):
        answer = server("HEAD", target)
        assert (answer.status, answer.body) == (404, b"")


def test_a_key_is_not_unquoted_twice_nor_collapsed(server):
    server("PUT", "/bucket/a%252Fb//c/..%2Fd+e", b"x")
    assert [info.key for info in server.store.list("bucket")] == ["a%2Fb//c/../d+e"]
