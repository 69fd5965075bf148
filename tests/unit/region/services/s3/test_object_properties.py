"""What is said of an object with its bytes: kept, given back, or refused by name."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import quote

import pytest
from tests.unit.region.services.s3.conftest import Server

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.s3.s3 import S3
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore

SSE = "x-amz-server-side-encryption"


def put(server, key="k", data=b"0123456789", **headers):
    return server("PUT", f"/bucket/{key}", data, headers=sized(headers, data))


def copy(server, source="k", target="copy", **headers):
    headers = {"x-amz-copy-source": f"bucket/{source}", **headers}
    return server("PUT", f"/bucket/{target}", headers=sized(headers))


def sized(headers, data=b""):
    return {"content-length": str(len(data)), **headers}


def document(server, method, target, query, text):
    body = text.encode()
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    return server(method, target, body, query=query, content_md5=digest)


def tags(server, target, method="GET"):
    answer = server(method, target, query="tagging")
    return {node.findtext("{*}Key"): node.findtext("{*}Value") for node in answer.xml.iter() if
            node.tag.endswith("}Tag")}  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, {SSE: "AES256"}),
        ({SSE: "AES256"}, {SSE: "AES256"}),
        (
            {SSE: "aws:kms"},
            {
                SSE: "aws:kms",
                f"{SSE}-aws-kms-key-id": "arn:aws:kms:us-east-1:000000000000:alias/aws/s3",
            },
        ),
        (
            {
                SSE: "aws:kms:dsse",
                f"{SSE}-aws-kms-key-id": "mine",
                f"{SSE}-bucket-key-enabled": "true",
            },
            {
                SSE: "aws:kms:dsse",
                f"{SSE}-aws-kms-key-id": "mine",
                f"{SSE}-bucket-key-enabled": "true",
            },
        ),
    ],
)
def test_encryption_comes_back(server, headers, expected):
    for answer in (put(server, **headers), server("HEAD", "/bucket/k"), server("GET", "/bucket/k")):
        found = {name: value for name, value in answer.headers.items() if name.startswith(SSE)}
        assert found == expected
    assert copy(server).headers[SSE] == "AES256", "a copy is encrypted as it is asked for itself"
    upload = server("POST", "/bucket/big", query="uploads", headers=sized(headers))
    assert expected.items() <= upload.headers.items()


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({SSE: "foo"}, "InvalidArgument"),
        ({f"{SSE}-aws-kms-key-id": "k"}, "InvalidArgument"),
        ({SSE: "AES256", f"{SSE}-aws-kms-key-id": "k"}, "InvalidArgument"),
        ({f"{SSE}-customer-algorithm": "AES256"}, "NotImplemented"),
        ({f"{SSE}-customer-algorithm": "AES256", SSE: "AES256"}, "InvalidArgument"),
        ({"x-amz-storage-class": "FOO"}, "InvalidStorageClass"),
        ({"x-amz-website-redirect-location": "x"}, "InvalidRedirectLocation"),
        ({"x-amz-object-lock-mode": "GOVERNANCE"}, "NotImplemented"),
        ({"x-amz-object-lock-legal-hold": "ON"}, "NotImplemented"),
        ({"x-amz-write-offset-bytes": "1"}, "NotImplemented"),
        ({"x-amz-checksum-xxhash64": "AAAA"}, "NotImplemented"),
        ({"x-amz-acl": "public-read"}, "AccessControlListNotSupported"),
        ({"x-amz-acl": "nonsense"}, "InvalidArgument"),
        ({"x-amz-grant-read": 'id="other"'}, "AccessControlListNotSupported"),
        ({"x-amz-tagging": "&".join(f"k{n}=v" for n in range(11))}, "InvalidTag"),
        ({"x-amz-tagging": "k" * 129 + "=v"}, "InvalidTag"),
        ({"x-amz-tagging": "k=" + "v" * 257}, "InvalidTag"),
        ({"x-amz-tagging": "aws:k=v"}, "InvalidTag"),
        ({"x-amz-tagging": "k=%3C"}, "InvalidTag"),
        ({"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-sha1": "AAAA"}, "InvalidRequest"),
        ({"x-amz-sdk-checksum-algorithm": "CRC32"}, "InvalidRequest"),
    ],
)
def test_what_is_not_kept_is_refused(server, headers, code):
    """By a put, and by the beginning of an upload as far as it has the member."""
    answer = put(server, **headers)
    assert answer.code == code
    if code == "NotImplemented":
        assert answer.xml.findtext("Header") in headers
    assert server("HEAD", "/bucket/k").status == 404
    if "checksum" not in "".join(headers):
        upload = server("POST", "/bucket/k", query="uploads", headers=sized(headers))
        assert upload.code == code


@pytest.mark.parametrize("acl", ["private", "bucket-owner-full-control"])
def test_acls_that_give_nothing_away_are_taken(server, acl):
    assert put(server, **{"x-amz-acl": acl}).status == 200
    for target in ("/bucket", "/bucket/k"):
        assert server("PUT", target, query="acl", x_amz_acl=acl).status == 200
        refused = server("PUT", target, query="acl", x_amz_acl="public-read")
        assert (refused.status, refused.code) == (400, "AccessControlListNotSupported")
        found = server("GET", target, query="acl")
        assert found.xml.findtext(".//{*}Permission") == "FULL_CONTROL"
        again = document(server, "PUT", target, "acl", found.body.decode())
        assert again.status == 200, "what is read can be put again"
        others = found.body.decode().replace("000000000000", "111122223333")
        refused = document(server, "PUT", target, "acl", others)
        assert refused.code == "AccessControlListNotSupported"


def test_storage_classes(server):
    put(server, **{"x-amz-storage-class": "STANDARD_IA"})
    put(server, "plain", **{"x-amz-storage-class": "STANDARD"})
    assert server("HEAD", "/bucket/k").headers["x-amz-storage-class"] == "STANDARD_IA"
    assert "x-amz-storage-class" not in server("HEAD", "/bucket/plain").headers
    for query in ("", "list-type=2", "versions"):
        page = server("GET", "/bucket", query=query).xml
        classes = [node.text for node in page.iterfind(".//{*}StorageClass")]
        assert classes == ["STANDARD_IA", "STANDARD"]
    attributes = server(
        "GET", "/bucket/k", query="attributes", x_amz_object_attributes="StorageClass"
    )
    assert attributes.xml.findtext("{*}StorageClass") == "STANDARD_IA"
    copy(server)
    assert "x-amz-storage-class" not in server("HEAD", "/bucket/copy").headers


@pytest.mark.parametrize("name", ["GLACIER", "DEEP_ARCHIVE"])
def test_what_is_archived_is_not_read(server, name):
    put(server, **{"x-amz-storage-class": name})
    assert server("HEAD", "/bucket/k").headers["x-amz-storage-class"] == name
    for answer in (server("GET", "/bucket/k"), copy(server)):
        assert (answer.status, answer.code) == (403, "InvalidObjectState")


def test_tags_of_objects(server, tmp_path):
    put(server, **{"x-amz-tagging": "a=1&b="})
    assert tags(server, "/bucket/k") == {"a": "1", "b": ""}
    for method in ("GET", "HEAD"):
        assert server(method, "/bucket/k").headers["x-amz-tagging-count"] == "2"
    text = "<Tagging><TagSet><Tag><Key>c é</Key><Value>3</Value></Tag></TagSet></Tagging>"
    modified = server("HEAD", "/bucket/k").headers["Last-Modified"]
    assert document(server, "PUT", "/bucket/k", "tagging", text).status == 200
    assert tags(server, "/bucket/k") == {"c é": "3"}
    got = server("GET", "/bucket/k")
    assert (got.body, got.headers["Last-Modified"]) == (b"0123456789", modified)
    assert tags(Server(ObjectStore(tmp_path / "s3")), "/bucket/k") == {"c é": "3"}
    assert server("DELETE", "/bucket/k", query="tagging").status == 204
    assert tags(server, "/bucket/k") == {}
    assert document(server, "PUT", "/bucket/nope", "tagging", text).code == "NoSuchKey"


def test_tags_of_buckets(server):
    assert server("GET", "/bucket", query="tagging").code == "NoSuchTagSet"
    tag = "<Tag><Key>k{}</Key><Value>v</Value></Tag>"
    text = "<Tagging><TagSet>" + "".join(map(tag.format, range(50))) + "</TagSet></Tagging>"
    assert document(server, "PUT", "/bucket", "tagging", text).status == 204
    assert len(tags(server, "/bucket")) == 50
    more = text.replace("</TagSet>", tag.format(50) + "</TagSet>")
    assert document(server, "PUT", "/bucket", "tagging", more).code == "InvalidTag"
    assert server("DELETE", "/bucket", query="tagging").status == 204
    assert server("GET", "/bucket", query="tagging").code == "NoSuchTagSet"
    body = f"<CreateBucketConfiguration><Tags>{tag.format(1)}</Tags></CreateBucketConfiguration>"
    assert server("PUT", "/other", body.encode()).status == 200
    assert tags(server, "/other") == {"k1": "v"}


def test_copies_take_what_their_directives_say(server):
    kept = {"content-type": "text/plain", "cache-control": "no-store", "x-amz-meta-a": "b"}
    put(server, **kept, **{"x-amz-tagging": "a=1", "x-amz-website-redirect-location": "/x"})
    copy(server, **{"x-amz-meta-a": "not", "x-amz-tagging": "not=1", "content-type": "not"})
    head = server("HEAD", "/bucket/copy").headers
    assert kept.items() <= head.items()
    assert "x-amz-website-redirect-location" not in head
    assert tags(server, "/bucket/copy") == {"a": "1"}
    replace = {"x-amz-metadata-directive": "REPLACE", "x-amz-tagging-directive": "REPLACE"}
    copy(server, **replace, **{"x-amz-meta-c": "d", "x-amz-tagging": "b=2"})
    head = server("HEAD", "/bucket/copy").headers
    assert (head["x-amz-meta-c"], head["content-type"]) == ("d", "binary/octet-stream")
    assert "x-amz-meta-a" not in head
    assert tags(server, "/bucket/copy") == {"b": "2"}
    assert copy(server, **{"x-amz-tagging-directive": "MERGE"}).code == "InvalidArgument"
    owner = {"x-amz-source-expected-bucket-owner": "111122223333"}
    assert copy(server, **owner).code == "AccessDenied"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"x-amz-tagging-directive": "REPLACE"}, 400),
        ({"x-amz-storage-class": "ONEZONE_IA"}, 200),
        ({SSE: "aws:kms"}, 200),
        ({"x-amz-website-redirect-location": "/y"}, 200),
        ({"x-amz-metadata-directive": "REPLACE"}, 200),
    ],
)
def test_an_object_is_copied_onto_itself_to_change_it(server, headers, status):
    put(server)
    assert copy(server, "k", "k", **headers).status == status
    assert server("GET", "/bucket/k").body == b"0123456789"
    for name, value in headers.items():
        if status == 200 and "directive" not in name:
            assert server("HEAD", "/bucket/k").headers[name] == value


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("deflate, gzip", "deflate, gzip"),
        ("deflate,gzip", "deflate,gzip"),
        ("gzip, aws-chunked", "gzip"),
        ("aws-chunked, gzip", "gzip"),
        ("aws-chunked", None),
    ],
)
def test_content_encodings_keep_their_spaces(server, sent, kept):
    put(server, **{"content-encoding": sent})
    assert server("HEAD", "/bucket/k").headers.get("content-encoding") == kept


@pytest.mark.parametrize(
    ("query", "path", "values"),
    [
        ("encryption", ".//{*}SSEAlgorithm", ["AES256"]),
        ("ownershipControls", ".//{*}ObjectOwnership", ["BucketOwnerEnforced"]),
        ("publicAccessBlock", "{*}*", ["true"] * 4),
    ],
)
def test_settings_that_every_bucket_has(server, query, path, values):
    found = server("GET", "/bucket", query=query).xml
    assert [node.text for node in found.iterfind(path)] == values
    assert server("GET", "/nope", query=query).code == "NoSuchBucket"


AES256 = "<SSEAlgorithm>AES256</SSEAlgorithm>"
RULE = "<Rule><ApplyServerSideEncryptionByDefault>{}</ApplyServerSideEncryptionByDefault>{}</Rule>"


@pytest.mark.parametrize(
    ("query", "name", "inner", "taken"),
    [
        ("encryption", "ServerSideEncryptionConfiguration", RULE.format(AES256, ""), True),
        (
            "encryption",
            "ServerSideEncryptionConfiguration",
            RULE.format(AES256, "<BucketKeyEnabled>true</BucketKeyEnabled>"),
            False,
        ),
        (
            "encryption",
            "ServerSideEncryptionConfiguration",
            RULE.format("<SSEAlgorithm>aws:kms</SSEAlgorithm>", ""),
            False,
        ),
        ("encryption", "ServerSideEncryptionConfiguration", "", False),
        (
            "publicAccessBlock",
            "PublicAccessBlockConfiguration",
            "<BlockPublicAcls>true</BlockPublicAcls>",
            False,
        ),
        (
            "ownershipControls",
            "OwnershipControls",
            "<Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule>",
            False,
        ),
    ],
)
def test_settings_are_put_as_they_are(server, query, name, inner, taken):
    same = server("GET", "/bucket", query=query).body.decode()
    assert document(server, "PUT", "/bucket", query, same).status == 200
    answer = document(server, "PUT", "/bucket", query, f"<{name}>{inner}</{name}>")
    assert answer.status == (200 if taken else 501)
    if not taken:
        assert name in answer.xml.findtext("Message")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-object-ownership": "BucketOwnerEnforced"}, None),
        ({"x-amz-object-ownership": "ObjectWriter"}, "NotImplemented"),
        ({"x-amz-object-ownership": "Nobody"}, "InvalidArgument"),
        ({"x-amz-bucket-object-lock-enabled": "false"}, None),
        ({"x-amz-bucket-object-lock-enabled": "True"}, "NotImplemented"),
        ({"x-amz-bucket-namespace": "account-regional"}, "NotImplemented"),
        ({"x-amz-acl": "private"}, None),
        ({"x-amz-acl": "public-read"}, "InvalidBucketAclWithObjectOwnership"),
    ],
)
def test_kinds_of_buckets(server, headers, code):
    answer = server("PUT", "/other", headers=sized(headers))
    assert (answer.code if answer.status >= 300 else None) == code
    assert server.store.has_bucket("other") == (code is None)


@pytest.mark.parametrize(
    "name",
    [
        "xn--a", "sthree-a", "amzn-s3-demo-a", "x-s3alias", "x--ol-s3", "x--x-s3", "x--table-s3",
        "x.mrap", "192.168.5.4", "1.2.3.400", "a..b", "ab", "a" * 64, "-ab", "ab-", "a_b",
    ],
)  # fmt: skip
def test_bucket_names_that_are_not(server, name):
    assert server("PUT", f"/{name}").code == "InvalidBucketName"


@pytest.mark.parametrize(
    ("region", "asked", "code"),
    [
        ("us-east-1", None, None),
        ("us-east-1", "us-east-1", "InvalidLocationConstraint"),
        ("us-east-1", "eu-central-1", "IllegalLocationConstraintException"),
        ("eu-central-1", "eu-central-1", None),
        ("eu-central-1", None, "IllegalLocationConstraintException"),
    ],
)
def test_where_a_bucket_is(tmp_path, region, asked, code):
    store = ObjectStore(tmp_path / "s3")
    server = Server(store)
    server.s3 = S3(store, Account(region=region))
    text = f"<LocationConstraint>{asked}</LocationConstraint>" if asked else ""
    body = f"<CreateBucketConfiguration>{text}</CreateBucketConfiguration>".encode()
    answer = server("PUT", "/there", body)
    assert (answer.code if answer.status >= 300 else None) == code
    if code is None:
        assert server("HEAD", "/there").headers["x-amz-bucket-region"] == region
        found = server("GET", "/there", query="location").xml.text
        assert found == (None if region == "us-east-1" else region)
        server("PUT", "/there/k", b"", headers=sized({SSE: "aws:kms"}))
        key = server("HEAD", "/there/k").headers[f"{SSE}-aws-kms-key-id"]
        assert key == f"arn:aws:kms:{region}:000000000000:alias/aws/s3"


@pytest.mark.parametrize(
    ("prefix", "query", "shown"),
    [
        ("\n", "encoding-type=url", "\n"),
        ("\n", "", "\n"),
        ("\n", "list-type=2&encoding-type=url", "%0A"),
        ("a b", "encoding-type=url", "a b"),
        ("\x01", "encoding-type=url", "%01"),
    ],
)
def test_prefixes_of_odd_characters(server, prefix, query, shown):
    """botocore reads the prefix of version 1 as it comes, and decodes that of version 2."""
    put(server, quote(f"{prefix}k"))
    page = server("GET", "/bucket", query=f"{query}&prefix={quote(prefix)}").xml
    assert page.findtext("{*}Prefix") == shown
    assert len(page.findall("{*}Contents")) == 1


def test_a_preflight_finds_no_cors(server):
    assert server("OPTIONS", "/bucket/k").code == "BadRequest"
    answer = server("OPTIONS", "/bucket/k", origin="http://127.0.0.1")
    assert (answer.status, answer.code) == (403, "AccessForbidden")


@pytest.mark.parametrize("name", [SSE, f"{SSE}-aws-kms-key-id"])
def test_a_read_is_not_told_of_encryption(server, name):
    put(server)
    assert server("GET", "/bucket/k", headers={name: "aws:kms"}).code == "InvalidArgument"


@pytest.mark.parametrize("flag", ["annotation", "metadataJournalTable", "heardOfLater"])
def test_a_subresource_that_is_not_known_is_not_the_object(server, flag):
    put(server)
    assert server("PUT", "/bucket/k", b"other", query=flag).code == "NotImplemented"
    assert server("DELETE", "/bucket/k", query=flag).code == "NotImplemented"
    assert server("GET", "/bucket/k").body == b"0123456789"
