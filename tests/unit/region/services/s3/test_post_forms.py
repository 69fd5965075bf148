"""Objects that a browser's form uploads."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import botocore.session
import pytest
from tests.unit.region.services.s3.conftest import Body, Server

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.s3.s3 import S3

BOUNDARY = "----b"


@pytest.fixture
def signed(server):
    """The same store, behind an S3 that knows one access key."""
    known = Server(server.store)
    known.s3.close = lambda: None
    known.s3 = S3(
        server.store, Account(), secret_of=lambda key, _token: {"AKID": "secret"}.get(key)
    )
    yield known
    known.s3.close()


@functools.cache
def client(access_key, secret):
    return botocore.session.get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret,
    )


def presigned(key, fields=None, conditions=None, *, access_key="AKID", secret="secret"):
    """What boto3's generate_presigned_post makes."""
    made = client(access_key, secret).generate_presigned_post("bucket", key, fields, conditions)
    return made["fields"]


def policy_fields(document, **more):
    """Signed by version 2, which takes any document."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    policy = base64.b64encode(text)
    signature = hmac.new(b"secret", policy, hashlib.sha1).digest()
    return {
        "key": "k",
        "AWSAccessKeyId": "AKID",
        "policy": policy.decode(),
        "signature": base64.b64encode(signature).decode(),
        **more,
    }


def in_an_hour(*conditions):
    expires = datetime.now(UTC) + timedelta(hours=1)
    conditions = [{"bucket": "bucket"}, ["starts-with", "$key", ""], *conditions]
    return {"expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"), "conditions": conditions}


def form(fields, data=b"hello", *, filename="a/b.txt", behind=b""):
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    if data is not None:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"'
        parts.append(head.encode() + b"\r\nContent-Type: text/csv\r\n\r\n" + data + b"\r\n")
    return b"".join(parts) + behind + f"--{BOUNDARY}--\r\n".encode()


def post(server, body, **headers):
    kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    return server("POST", "/bucket", body, **{**kind, "host": "127.0.0.1", **headers})


def test_boto3s_form_uploads(signed):
    fields = presigned("in/${filename}", {"acl": "private"}, [{"acl": "private"}])
    answer = post(signed, form(fields))
    assert answer.status == 204, answer.body
    assert answer.headers["Location"] == "http://127.0.0.1/bucket/in/b.txt"
    got = signed("GET", "/bucket/in/b.txt")
    assert got.body == b"hello"
    assert got.headers["ETag"] == answer.headers["ETag"]


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_a_form_arrives_in_pieces_of_any_size(signed, piece):
    """With what looks like the boundary inside, and parts behind the file that are not read."""
    data = b"\r\n--" + BOUNDARY[:-1].encode() + b"x" * 300 + b"\r\n-"
    behind = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="late"\r\n\r\n1\r\n'.encode()
    body = Body(form(presigned("k"), data, behind=behind), piece=piece)
    assert post(signed, body).status == 204
    assert signed("GET", "/bucket/k").body == data


def test_what_a_form_says_of_its_object_is_kept(signed):
    fields = {
        "Content-Type": "text/plain",
        "Cache-Control": "no-store",
        "x-amz-meta-a": "b",
        "x-amz-storage-class": "STANDARD_IA",
        "tagging": "<Tagging><TagSet><Tag><Key>t</Key><Value>u</Value></Tag></TagSet></Tagging>",
    }
    conditions = [["starts-with", f"${name}", ""] for name in fields]
    assert post(signed, form(policy_fields(in_an_hour(*conditions), **fields))).status == 204
    head = signed("HEAD", "/bucket/k").headers
    assert head["content-type"] == "text/plain"
    assert head["cache-control"] == "no-store"
    assert head["x-amz-meta-a"] == "b"
    assert head["x-amz-storage-class"] == "STANDARD_IA"
    assert head["x-amz-tagging-count"] == "1"


def test_fields_in_utf_8(signed):
    """As of a client that sends the headers of a put in UTF-8."""
    fields = {"x-amz-meta-a": "\N{EURO SIGN}"}
    assert (
        post(
            signed, form(policy_fields(in_an_hour(["starts-with", "$x-amz-meta-a", ""]), **fields))
        ).status
        == 204
    )
    head = signed("HEAD", "/bucket/k").headers
    assert head["x-amz-meta-a"].encode("latin-1").decode() == "\N{EURO SIGN}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Type", "text/plain\r\nSet-Cookie: a=b"),
        ("Cache-Control", "a\0"),
        ("x-amz-meta-a", "\x7f"),
        ("x-amz-meta-a b", "c"),
        ("x-amz-meta-a\N{EURO SIGN}", "c"),
        ("x-amz-meta-a:", "c"),
    ],
)
def test_fields_that_no_response_could_give_back(signed, name, value):
    fields = {name: value}
    policy = policy_fields(in_an_hour(["starts-with", f"${name}", ""]), **fields)
    answer = post(signed, form(policy))
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert signed("HEAD", "/bucket/k").status == 404


@pytest.mark.parametrize(
    ("field", "value", "status", "location"),
    [
        ("success_action_status", "200", 200, "http://127.0.0.1/bucket/k"),
        ("success_action_status", "201", 201, "http://127.0.0.1/bucket/k"),
        ("success_action_status", "404", 204, "http://127.0.0.1/bucket/k"),
        (
            "success_action_redirect",
            "http://a.test/b?c=d",
            303,
            "http://a.test/b?c=d&bucket=bucket&key=k&etag=%225d41402abc4b2a76b9719d911017c592%22",
        ),
        ("success_action_redirect", "javascript:x", 204, "http://127.0.0.1/bucket/k"),
    ],
)
def test_the_answer_that_a_form_asks_for(signed, field, value, status, location):
    fields = policy_fields(in_an_hour({field: value}), **{field: value})
    answer = post(signed, form(fields))
    assert (answer.status, answer.headers["Location"]) == (status, location)
    if status == 201:
        assert answer.xml.findtext("{*}Key") == "k"


EARLY = {"expiration": "2020-01-01T00:00:00Z", "conditions": []}
REFUSED = {
    "unsigned": ({"key": "k"}, 403, "AccessDenied", "Access Denied"),
    "signature": (
        policy_fields(in_an_hour(), signature="x"), 403, "SignatureDoesNotMatch", "signature"
    ),
    "key": (policy_fields(in_an_hour(), AWSAccessKeyId="x"), 403, "InvalidAccessKeyId", ""),
    "no signature": (
        {"key": "k", "policy": "e30="}, 400, "InvalidArgument", "field named 'signature'"
    ),
    "no key": ({"policy": "e30="}, 400, "InvalidArgument", "field named 'key'"),
    "expired": (policy_fields(EARLY), 403, "AccessDenied", "Policy expired"),
    "extra": (
        policy_fields(in_an_hour(), acl="private"), 403, "AccessDenied", "Extra input fields: acl"
    ),
    "ignored": (policy_fields(in_an_hour(), **{"x-ignore-a": "b"}), 204, "", ""),
    "eq": (
        policy_fields(in_an_hour(["eq", "$key", "other"])), 403, "AccessDenied",
        'Policy Condition failed: ["eq", "$key", "other"]',
    ),
    "starts-with": (
        policy_fields(in_an_hour(["Starts-With", "$KEY", "other"])), 403, "AccessDenied", "failed"
    ),
    "bucket": (
        policy_fields(in_an_hour({"bucket": "other"})), 403, "AccessDenied", "$bucket"
    ),
    "large": (
        policy_fields(in_an_hour(["content-length-range", 0, 4])), 400, "EntityTooLarge", "maximum"
    ),
    "small": (
        policy_fields(in_an_hour(["content-length-range", 6, 9])), 400, "EntityTooSmall", "minimum"
    ),
    "range": (
        policy_fields(in_an_hour(["content-length-range", 6])), 400, "InvalidPolicyDocument", ""
    ),
    "json": (policy_fields(b"{"), 400, "InvalidPolicyDocument", "Invalid JSON"),
    "an end that no clock has": (
        policy_fields({"expiration": "9999-12-31T23:59:59-23:00", "conditions": []}),
        400, "InvalidPolicyDocument", "9999",
    ),
    "no expiration": (
        policy_fields({"conditions": []}), 400, "InvalidPolicyDocument", "missing expiration"
    ),
    "no conditions": (
        policy_fields({"expiration": "2999-01-01T00:00:00Z"}), 400, "InvalidPolicyDocument",
        "missing conditions",
    ),
    "two in one": (
        policy_fields(in_an_hour({})), 400, "InvalidPolicyDocument", "exactly one property"
    ),
    "date": (
        policy_fields({"expiration": "tomorrow", "conditions": []}), 400,
        "InvalidPolicyDocument", "'tomorrow'",
    ),
    "digest": (
        policy_fields(in_an_hour(), **{"x-amz-checksum-crc32": "AAAAAA=="}), 400, "BadDigest", ""
    ),
    "two digests": (
        policy_fields(
            in_an_hour(), **{"x-amz-checksum-crc32": "AAAA", "x-amz-checksum-sha1": "AAAA"}
        ), 400, "InvalidRequest", "single",
    ),
    "lock": (
        policy_fields(
            in_an_hour({"x-amz-object-lock-mode": "GOVERNANCE"}),
            **{"x-amz-object-lock-mode": "GOVERNANCE"},
        ), 501, "NotImplemented", "x-amz-object-lock-mode",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_forms_that_do_not_keep_to_their_policy(signed, case):
    fields, status, code, words = REFUSED[case]
    answer = post(signed, form(fields))
    assert answer.status == status
    if status != 204:
        assert answer.code == code
        assert words in answer.xml.findtext("Message")
        assert signed("HEAD", "/bucket/k").status == 404
        assert not list((signed.store.uploads.parent / ".new").iterdir())


def test_a_form_signed_by_another_key(signed):
    fields = presigned("k", secret="other")
    assert post(signed, form(fields)).code == "SignatureDoesNotMatch"
    fields = presigned("k", access_key="AKIX")
    assert post(signed, form(fields)).code == "InvalidAccessKeyId"


def test_where_no_secret_is_known_nothing_is_checked(server):
    assert post(server, form({"key": "k"})).status == 204


def test_bodies_that_are_no_form(signed):
    fields = presigned("k")
    assert post(signed, b"", **{"content-type": "text/plain"}).status == 412
    assert post(signed, form(fields, None)).code == "InvalidArgument"
    assert post(signed, form(fields)[:-20]).code == "MalformedPOSTRequest"
    assert post(signed, b"nothing of it").code == "MalformedPOSTRequest"
    large = form({**fields, "x-ignore-a": "x" * 21_000})
    assert post(signed, large).code == "MaxPostPreDataLengthExceededError"
