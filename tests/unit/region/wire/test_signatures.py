"""Signatures as botocore makes them, and every part of a request that they hold together."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import (
    HmacV1Auth,
    HmacV1QueryAuth,
    S3SigV4Auth,
    S3SigV4QueryAuth,
    SigV4Auth,
    SigV4QueryAuth,
)
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as ClientKeys
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.region.wire.requests import Body

from sagemaker_byoc.region.core.account import CALLER, Credentials, Keys
from sagemaker_byoc.region.wire import signatures
from sagemaker_byoc.region.wire.admission import Admission, Denial, DeniedError
from sagemaker_byoc.region.wire.http import BufferedBody, Request
from sagemaker_byoc.region.wire.operations import AwsError

OWNER = Keys("AKIAOWNER", "secret/of+the=owner")
HOST = "http://127.0.0.1:8321"
LIMIT = 1 << 20
ROLE = "arn:aws:sts::000000000000:assumed-role/r/s"


def sent(prepared):
    """What arrives of a request that botocore has prepared."""
    parts = urlsplit(prepared.url)
    headers = {name.lower(): value for name, value in prepared.headers.items()}
    headers = {n: v.decode() if isinstance(v, bytes) else v for n, v in headers.items()}
    return Request(
        method=prepared.method,
        target=parts.path or "/",
        query_string=parts.query,
        headers={"host": parts.netloc, **headers},
        body=Body(prepared.body or b""),
        id="1",
    )


def signed(signer, *, method="POST", url=f"{HOST}/", body=b"{}", keys=OWNER, **headers):
    """`signer` takes the client's keys."""
    client = ClientKeys(keys.access_key, keys.secret_key, keys.token or None)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method=method, url=url, data=body, headers=names)
    signer(client).add_auth(request)
    return sent(request.prepare())


def v4(service="sagemaker"):
    return lambda keys: SigV4Auth(keys, service, "us-east-1")


def s3(keys):
    return S3SigV4Auth(keys, "s3", "us-east-1")


def admit(request, credentials=None, routed=None):
    """The principal, and the request as its handler gets it; raises DeniedError."""
    routed = routed or dataclasses.replace(request)
    admission = Admission(credentials or Credentials(OWNER))

    async def check():
        scope = request.headers.get("authorization", "") + request.query_string
        if "s3" in scope or "AWSAccessKeyId" in scope or scope.startswith("AWS "):
            admission.check_s3_signature(request, routed)
        else:
            await admission.check_signature(request, routed, limit=LIMIT)
        return CALLER.get()

    return asyncio.run(check()), routed


def denial(request, credentials=None):
    with pytest.raises(DeniedError) as refused:
        admit(request, credentials)
    assert 'eval "$(byoc local env)"' in refused.value.message
    assert OWNER.secret_key not in refused.value.message
    return refused.value.denial


def test_what_botocore_signs_is_admitted():
    principal, routed = admit(signed(v4(), body=b'{"a": 1}', X_Amz_Target="SageMaker.ListModels"))
    assert principal.is_owner
    assert isinstance(routed.body, BufferedBody)
    assert asyncio.run(routed.body.read(LIMIT)) == b'{"a": 1}'


def test_a_json_service_takes_no_unsigned_body():
    """Its body decides what is done, so it is always part of the signature."""
    client = ClientKeys(OWNER.access_key, OWNER.secret_key)
    signer = SigV4Auth(client, "sagemaker", "us-east-1")
    signer.payload = lambda _: "UNSIGNED-PAYLOAD"
    headers = {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    request = AWSRequest(method="POST", url=f"{HOST}/", data=b"{}", headers=headers)
    signer.add_auth(request)
    assert denial(sent(request.prepare())) is Denial.MISMATCH


SEGMENTS = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="/"), min_size=1
).filter(lambda text: text not in {".", ".."})


@given(key=SEGMENTS, value=st.text(st.characters(blacklist_categories=["Cs"]), max_size=9))
def test_any_key_and_query_of_s3(key, value):
    """Encoded on the wire as botocore does."""
    from botocore.utils import percent_encode, percent_encode_sequence

    url = f"{HOST}/bucket/{percent_encode(key, safe='/~')}"
    query = percent_encode_sequence({"prefix": value, "list-type": "2"})
    for signer in (s3, HmacV1Auth):
        admit(signed(signer, method="GET", url=f"{url}?{query}", body=b""))


@pytest.mark.parametrize("url", [f"{HOST}/a%20b/c+d~(!)*'", f"{HOST}/b/k?x=%2F&uploads=&y=a+b"])
def test_clients_that_encode_otherwise_than_they_sign(url):
    """Signed as AWS encodes paths and queries, sent with characters left bare, or the reverse."""
    from urllib.parse import quote, unquote

    request = signed(s3, method="GET", url=url, body=b"")
    bare = dataclasses.replace(request, target=quote(unquote(request.target), safe="/~!*'()+,$"))
    if "+" not in unquote(request.target):
        admit(bare)
    admit(request)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"target": "/other"},
        {"query_string": "x=1"},
        {"body": Body(b"{ }")},
        {"headers": {"x-amz-target": "SageMaker.DeleteModel"}},
        {"headers": {"host": "localhost:8321"}},
    ],
)
def test_nothing_that_is_signed_may_change(change):
    request = signed(v4(), X_Amz_Target="SageMaker.ListModels")
    change = {**change, "headers": {**request.headers, **change.get("headers", {})}}
    assert denial(dataclasses.replace(request, **change)) is Denial.MISMATCH


def test_a_wrong_key_and_an_unknown_one():
    assert denial(signed(v4(), keys=Keys(OWNER.access_key, "other"))) is Denial.MISMATCH
    assert denial(signed(v4(), keys=Keys("AKIAOTHER", "x"))) is Denial.UNKNOWN_KEY
    assert denial(signed(s3, keys=Keys(OWNER.access_key, "other"))) is Denial.MISMATCH
    token = dataclasses.replace(OWNER, token="left from another account")
    assert denial(signed(v4(), keys=token)) is Denial.UNKNOWN_KEY


def test_rotated_keys_are_refused_at_once():
    """What is remembered of a signature (its day's key, its time) admits nobody by itself."""
    path = f"{HOST}/endpoints/e/invocations"
    old = signed(v4(), url=path)
    admit(old)
    rotated = Keys(OWNER.access_key, "another/secret")
    assert denial(old, Credentials(rotated)) is Denial.MISMATCH
    new = signed(v4(), url=path, keys=rotated)
    admit(new, Credentials(rotated))
    assert denial(new) is Denial.MISMATCH


@pytest.mark.parametrize("path", ["/endpoints/e/invocations", "/a//b/../c", "/a b", "/é/%25", "/"])
def test_a_path_is_signed_as_botocore_does(path):
    url = f"{HOST}{quote(path)}"
    admit(signed(v4(), url=url))
    moved = dataclasses.replace(signed(v4(), url=url), target="/endpoints/f/invocations")
    assert denial(moved) is Denial.MISMATCH


def test_no_signature_and_one_that_cannot_be_read():
    request = signed(v4())
    bare = {name: value for name, value in request.headers.items() if name != "authorization"}
    assert denial(dataclasses.replace(request, headers=bare)) is Denial.MISSING
    for text in (
        "AWS4-HMAC-SHA256 Credential=x",
        "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=0",
        "AWS4-ECDSA-P256-SHA256 Credential=x, SignedHeaders=host, Signature=0",
        request.headers["authorization"].replace("SignedHeaders=host;", "SignedHeaders="),
    ):
        broken = dataclasses.replace(request, headers={**request.headers, "authorization": text})
        assert denial(broken) is Denial.MALFORMED


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 07 Jul 1950 21:53:04 GMT"])
def test_version_2_needs_a_date(date):
    request = signed(HmacV1Auth, method="PUT", url=f"{HOST}/b/k")
    headers = {**request.headers, "date": date}
    assert denial(dataclasses.replace(request, headers=headers)) is Denial.NO_DATE


def test_a_date_that_no_clock_has_cannot_be_read():
    request = signed(v4())
    for text in ("Fri, 31 Dec 9999 23:59:59 -2300", "1 Jan 99999999999999999999 00:00:00 +0000"):
        headers = {n: v for n, v in request.headers.items() if n != "x-amz-date"}
        broken = dataclasses.replace(request, headers={**headers, "date": text})
        assert denial(broken) is Denial.MALFORMED


def test_a_version_2_query_without_the_key():
    url = f"{HOST}/b/k?Signature=x&Expires=9999999999&XAWSAccessKeyId=x"
    unsigned = sent(AWSRequest(method="GET", url=url).prepare())
    for query in (unsigned.query_string, unsigned.query_string.replace("=x", "=", 2)):
        assert denial(dataclasses.replace(unsigned, query_string=query)) is Denial.MALFORMED


def test_a_header_that_selects_the_operation_must_be_signed():
    request = signed(v4())
    more = {**request.headers, "x-amz-target": "SageMaker.DeleteModel"}
    assert denial(dataclasses.replace(request, headers=more)) is Denial.UNSIGNED_HEADER
    request = signed(s3, method="PUT", url=f"{HOST}/b/k")
    more = {**request.headers, "x-amz-copy-source": "/b/other"}
    assert denial(dataclasses.replace(request, headers=more)) is Denial.UNSIGNED_HEADER


@pytest.mark.parametrize("minutes", [-16, 16])
@pytest.mark.parametrize("signer", [v4(), s3, HmacV1Auth])
def test_a_clock_that_is_off(monkeypatch, minutes, signer):
    """Or a request that was recorded and is sent again later."""
    request = signed(signer)
    then = datetime.now(UTC) + timedelta(minutes=minutes)
    monkeypatch.setattr("sagemaker_byoc.region.wire.admission._now", lambda: then)
    assert denial(request) is Denial.SKEWED


@pytest.mark.parametrize(
    "signer",
    [
        lambda keys: S3SigV4QueryAuth(keys, "s3", "us-east-1", expires=60),
        lambda keys: HmacV1QueryAuth(keys, expires=60),
    ],
)
@pytest.mark.parametrize("token", ["", "session"])
def test_a_presigned_url(signer, token):
    credentials = Credentials(OWNER)
    keys = credentials.issue(ROLE) if token else OWNER
    url = f"{HOST}/b/k%20%2B?response-content-type=text%2Fx"
    request = signed(signer, method="GET", url=url, body=b"", keys=keys)
    principal, _ = admit(request, credentials)
    assert principal.arn == (ROLE if token else "")
    assert denial(dataclasses.replace(request, target="/b/other"), credentials) is Denial.MISMATCH
    changed = request.query_string.replace("text%2Fx", "text%2Fhtml")
    assert denial(dataclasses.replace(request, query_string=changed), credentials) is (
        Denial.MISMATCH
    )


def test_a_presigned_call_of_another_service_expires(monkeypatch):
    """As Kubernetes' authenticators presign GetCallerIdentity. S3 checks its own."""
    url = f"{HOST}/?Action=GetCallerIdentity&Version=2011-06-15"

    def signer(keys):
        return SigV4QueryAuth(keys, "sts", "us-east-1", expires=60)

    request = signed(signer, method="GET", url=url, body=b"")
    assert admit(request)[0].is_owner
    then = datetime.now(UTC) + timedelta(seconds=61)
    monkeypatch.setattr("sagemaker_byoc.region.wire.admission._now", lambda: then)
    assert denial(request) is Denial.EXPIRED


def stating(stated):
    """A request to S3 with the body `x`, signed with `stated` in the place of its hash."""
    prepared = AWSRequest(method="PUT", url=f"{HOST}/b/k", data=b"x")
    signer = S3SigV4Auth(ClientKeys(OWNER.access_key, OWNER.secret_key), "s3", "us-east-1")
    signer.payload = lambda _: stated
    signer.add_auth(prepared)
    prepared.headers.replace_header("X-Amz-Content-SHA256", stated)
    return sent(prepared.prepare())


def test_bodies_of_s3():
    """A literal hash is checked when the body has been read; a stream's seed is the signature."""
    request = signed(s3, method="PUT", url=f"{HOST}/b/k", body=b"data")
    _, routed = admit(request)
    assert asyncio.run(routed.body.read(LIMIT)) == b"data"
    _, routed = admit(dataclasses.replace(request, body=Body(b"date")))
    with pytest.raises(AwsError, match="XAmzContentSHA256Mismatch"):
        asyncio.run(routed.body.read(LIMIT))
    for stated in ("UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
        _, routed = admit(stating(stated))
        assert asyncio.run(routed.body.read(LIMIT)) == b"x"
    for stated in ("x", "STREAMING-X", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "0" * 63):
        with pytest.raises(AwsError, match="must be UNSIGNED-PAYLOAD") as refused:
            admit(stating(stated))
        assert (refused.value.code, refused.value.status) == ("InvalidArgument", 400)
    _, routed = admit(stating("A" * 64))
    with pytest.raises(AwsError, match="XAmzContentSHA256Mismatch"):
        asyncio.run(routed.body.read(LIMIT))
    _, routed = admit(stating(hashlib.sha256(b"x").hexdigest().upper()))
    assert asyncio.run(routed.body.read(LIMIT)) == b"x"
    nothing = {n: v for n, v in request.headers.items() if n != "x-amz-content-sha256"}
    assert denial(dataclasses.replace(request, headers=nothing)) is Denial.MALFORMED


def test_temporary_keys_end():
    credentials = Credentials(OWNER)
    keys = credentials.issue(ROLE, datetime.now(UTC) + timedelta(seconds=60))
    principal, _ = admit(signed(v4(), keys=keys), credentials)
    assert (principal.arn, principal.is_owner) == (ROLE, False)
    again = Credentials(OWNER)
    assert admit(signed(v4(), keys=keys), again)[0].arn == ROLE, "valid over a restart"
    past = credentials.issue(ROLE, datetime.now(UTC) - timedelta(seconds=1))
    assert denial(signed(v4(), keys=past), credentials) is Denial.EXPIRED_TOKEN
    for_containers = credentials.issue(ROLE)
    admit(signed(v4(), keys=for_containers), credentials)
    assert denial(signed(v4(), keys=for_containers), again) is Denial.UNKNOWN_KEY
    payload, _, signature = keys.token.partition(".")
    for token in ("", "x", f"{payload}x.{signature}", f"{payload}.{signature[:-1]}0é"):
        forged = dataclasses.replace(keys, token=token)
        assert denial(signed(v4(), keys=forged), credentials) is Denial.UNKNOWN_KEY
    assert credentials.find("é", "é.é", datetime.now(UTC)) is None


def test_our_own_signer():
    url = f"{HOST}/_byoc/interrupt/a%20b"
    credentials = Credentials(OWNER)
    for keys in (OWNER, credentials.issue(ROLE)):
        headers = signatures.sign("POST", url, keys)
        parts = urlsplit(url)
        request = Request(
            method="POST",
            target=parts.path,
            query_string="",
            headers={"host": parts.netloc, **headers},
            body=Body(b""),
            id="1",
        )
        assert admit(request, credentials)[0].arn == ("" if keys is OWNER else ROLE)
