"""Which service a request is for, and the protocol of its errors."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.unit.region.wire.requests import answer, request

from sagemaker_byoc.region.wire.http import Response
from sagemaker_byoc.region.wire.operations import AwsError
from sagemaker_byoc.region.wire.routing import Router, Services, signing_name

FORM = "application/x-www-form-urlencoded; charset=utf-8"


def scope(service):
    return (
        f"AWS4-HMAC-SHA256 Credential=AKIA/20240101/us-east-1/{service}/aws4_request, "
        "SignedHeaders=host, Signature=00"
    )


def named(name):
    async def handler(asked):
        return Response(body=f"{name} {asked.target}".encode())

    return handler


ROUTER = Router(
    Services(
        targets={"SageMaker": named("sagemaker"), "Logs_20140328": named("logs")},
        queries={"sts": named("sts"), "iam": named("iam")},
        s3=named("s3"),
        runtime=named("runtime"),
        registry=named("registry"),
        own=named("own"),
    )
)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request(x_amz_target="SageMaker.CreateModel"), "sagemaker /"),
        (request(x_amz_target="Logs_20140328.GetLogEvents", authorization=scope("s3")), "logs /"),
        (request(authorization=scope("sts"), content_type=FORM), "sts /"),
        (request(authorization=scope("iam"), content_type=FORM), "iam /"),
        (request(content_type=FORM), "sts /"),
        (
            request("GET", "/", authorization=scope("sts"), query="Action=GetCallerIdentity"),
            "sts /",
        ),
        (
            request("POST", "/endpoints/e/invocations", authorization=scope("sagemaker")),
            "runtime /endpoints/e/invocations",
        ),
        (request("POST", "/endpoints/e/invocations"), "runtime /endpoints/e/invocations"),
        (
            request("PUT", "/endpoints/e/invocations", authorization=scope("s3")),
            "s3 /endpoints/e/invocations",
        ),
        (request("GET", "/v2/"), "registry /v2/"),
        (
            request("GET", "/v2/a/manifests/b", authorization="Basic eA=="),
            "registry /v2/a/manifests/b",
        ),
        (request("GET", "/v2x/a"), "s3 /v2x/a"),
        (request("GET", "/bucket/key"), "s3 /bucket/key"),
        (request("POST", "/bucket", content_type=FORM), "s3 /bucket"),
        (request("GET", "/_byoc/status"), "own /_byoc/status"),
        (
            request(
                "GET",
                "/v2/x",
                query="X-Amz-Credential=A%2F20240101%2Fus-east-1%2Fs3%2Faws4_request",
            ),
            "s3 /v2/x",
        ),
        (request("GET", "/k%20a", host="my.bucket.s3.localhost:1"), "s3 /my.bucket/k%20a"),
        (request("GET", "/k", host="b1.localhost:8321"), "s3 /b1/k"),
        (request("GET", "/b1/k", host="s3.localhost"), "s3 /b1/k"),
        (request("GET", "/b1/k", host="127.0.0.1:8321"), "s3 /b1/k"),
    ],
)
def test_a_request_finds_its_service(asked, expected):
    assert answer(ROUTER, asked).body.decode() == expected


def test_only_a_whole_scope_counts():
    assert signing_name(request(authorization="AWS a:b")) is None
    assert signing_name(request(authorization=scope("s3"))) == "s3"


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        (request(x_amz_target="Kinesis.Put"), lambda body: json.loads(body)["__type"]),
        (
            request(authorization=scope("sns"), content_type=FORM),
            lambda body: ET.fromstring(body).findtext("Error/Code"),
        ),
        (
            request("GET", "/2015-03-31/functions", authorization=scope("lambda")),
            lambda body: "UnknownOperationException" * (b"lambda" in body),
        ),
        (
            request(
                "POST", "/service/G/operation/ListMetrics",
                authorization=scope("monitoring"), smithy_protocol="rpc-v2-cbor",
            ),
            lambda body: "UnknownOperationException" * (b"UnknownOperationException" in body),
        ),
    ],
)  # fmt: skip
def test_a_service_that_is_not_there_is_refused_in_its_own_protocol(asked, read):
    response = answer(ROUTER, asked)
    assert response.status == 400
    assert read(response.body) == "UnknownOperationException"


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (request(x_amz_target="A.B"), b"InternalFailure", b"request-1"),
        (request(authorization=scope("iam"), content_type=FORM), b"InternalFailure", b"request-1"),
        (request("GET", "/b/k"), b"InternalError", b"<Code>"),
        (request("POST", "/endpoints/e/invocations"), b"", b"request-1"),
        (request("GET", "/v2/"), b"UNKNOWN", b'"errors"'),
    ],
)
def test_a_failure_is_answered_in_the_protocol_and_logged(asked, code, words, caplog):
    async def fail(_request):
        raise ZeroDivisionError("a secret")

    router = Router(
        Services(targets={"A": fail}, queries={"iam": fail}, s3=fail, runtime=fail, registry=fail)
    )
    response = answer(router, asked)
    assert response.status == 500
    assert code in response.body
    assert words in response.body
    assert b"secret" not in response.body
    assert "a secret" in caplog.text


def _fill_a_database():
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.executescript("PRAGMA max_page_count = 2; CREATE TABLE t (a)")
    database.execute("INSERT INTO t VALUES (zeroblob(100000))")


def _fill_a_device():
    Path("/dev/full").write_bytes(b"x")


@pytest.mark.parametrize("fill", [_fill_a_database, _fill_a_device])
def test_a_full_disk_is_named(fill, caplog):
    async def write(_request):
        fill()

    response = answer(Router(Services(targets={"A": write})), request(x_amz_target="A.B"))
    assert response.status == 500
    assert json.loads(response.body)["__type"] == "InternalFailure"
    assert b"The disk of the region's folder is full" in response.body
    assert "the disk is full" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_refusal_keeps_its_status_and_words():
    async def refuse(_request):
        raise AwsError("NoSuchKey", "gone <&>", status=404)

    response = answer(Router(Services(s3=refuse)), request("GET", "/b/k"))
    assert response.status == 404
    assert ET.fromstring(response.body).findtext("Message") == "gone <&>"
    assert answer(Router(Services(s3=refuse)), request("HEAD", "/b/k")).body == b""


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://[::1", 403),
        ("http://localhost:3000", 200),
    ],
)
def test_a_web_page_of_another_site_is_refused(origin, status):
    """It could send this without asking: text, a POST, no special header."""
    asked = request("POST", "/bucket", query="delete", origin=origin, content_type="text/plain")
    assert answer(ROUTER, asked).status == status
