"""No member of any request is lost: it is read, or refused by its name.

The requests are those that botocore makes of its own model, so that a member which AWS adds later
fails here until it is honoured or refused.
"""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import urlencode

import pytest
from botocore.serialize import create_serializer
from tests.support.members import Recorder, sample

from sagemaker_byoc.region.services.s3.call import parse
from sagemaker_byoc.region.services.s3.store.multipart import Uploads
from sagemaker_byoc.region.services.s3.store.objects import Attributes
from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.http import Request

MODEL = models.service_model("s3")
OF_ANOTHER_HOST = {"ListDirectoryBuckets", "WriteGetObjectResponse"}
ELSEWHERE = {"uri", "headers"}
"""Locations of the bucket, the key and the user's metadata, which other tests put and get."""
MEANINGLESS = {
    "RequestPayer": "buckets of one's own charge nobody else",
    "BypassGovernanceRetention": "nothing is under retention: locks are refused",
    "ContentLength": "the length of the body, which `Incoming` reads if there is one",
    "ContentType": "read by every put; of others it says nothing",
}
BASE = {
    "Bucket": "bucket",
    "Key": "k",
    "CopySource": "bucket/source",
    "ExpectedBucketOwner": "000000000000",
    "ExpectedSourceBucketOwner": "000000000000",
    "VersionId": "null",
    "Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]},
    "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": "x"}]},
}


def made(name, parameters):
    """The request as botocore would send it."""
    operation = MODEL.operation_model(name)
    made = create_serializer("rest-xml", include_validation=False).serialize_to_request(
        parameters, operation
    )
    query = made["query_string"]
    path, _, flags = made["url_path"].partition("?")
    text = "&".join(filter(None, [flags, urlencode(query, doseq=True)]))
    headers = Recorder({key.lower(): str(value) for key, value in made["headers"].items()})
    body = made["body"] if isinstance(made["body"], bytes) else b""
    headers["content-length"] = str(len(body))
    if body:
        digest = hashlib.md5(body).digest()
        headers["content-md5"] = base64.b64encode(digest).decode()
    return made["method"], path, text, headers, body


def routed(server):
    for name in MODEL.operation_names:
        if name in OF_ANOTHER_HOST:
            continue
        shape = MODEL.operation_model(name).input_shape
        parameters = {} if shape is None else sample(shape, **BASE)
        method, path, query, headers, _ = made(name, parameters)
        request = Request(
            method=method, target=path, query_string=query, headers=headers, body=None, id="ID"
        )
        if parse(request).route in server.s3.routes:
            yield name


@pytest.fixture
def queries(monkeypatch):
    """The query of the request that was parsed last."""
    seen = []

    def query(self):
        seen.append(Recorder(original.fget(self)))
        return seen[-1]

    original = Request.query
    monkeypatch.setattr(Request, "query", property(query))
    return seen


def test_the_operations_are_all_looked_at(server):
    assert len(set(routed(server))) > 40


@pytest.mark.slow
def test_no_member_is_ignored(server, queries):
    ignored = {
        f"{name}.{member}"
        for name in routed(server)
        for member in members(name)
        if not honoured(server, queries, name, member)
    }
    assert not ignored, "\n".join(sorted(ignored))


def members(name):
    shape = MODEL.operation_model(name).input_shape
    for member, inner in (shape.members if shape else {}).items():
        location = inner.serialization.get("location", "body")
        if location not in {"body", *ELSEWHERE} and member not in MEANINGLESS:
            yield member


def honoured(server, queries, name, member):
    shape = MODEL.operation_model(name).input_shape
    known = {**BASE, "UploadId": fresh(server)}
    parameters = sample(shape, **known)
    inner = shape.members[member]
    parameters[member] = sample(inner, member, **known)
    if name == "CompleteMultipartUpload":  # the document is optional in the model alone
        parameters["MultipartUpload"] = BASE["MultipartUpload"]
    method, path, query, headers, body = made(name, parameters)
    queries.clear()
    answer = server(method, path, body, query=query, headers=headers)
    sent = inner.serialization["name"]
    read = queries[-1].read | headers.read
    refused = answer.status == 501 and (method == "HEAD" or sent.lower() in answer.body.decode())
    return sent in read or sent.lower() in read or refused


def fresh(server):
    """A bucket with the objects that the requests are about; the id of an upload."""
    for key in ("k", "source"):
        server.store.put_bytes("bucket", key, b"0123456789")
    attributes = Attributes(etag="")
    return Uploads(server.store).create("bucket", "k", attributes, "").id


def test_a_presigned_url_carries_headers_in_its_query(server):
    """As the AWS SDK for JavaScript makes them."""
    query = "X-Amz-Signature=any&x-amz-tagging=a%3Db&x-amz-storage-class=STANDARD_IA"
    assert server("PUT", "/bucket/k", b"x", query=query).status == 200
    head = server("HEAD", "/bucket/k")
    assert head.headers["x-amz-tagging-count"] == "1"
    assert head.headers["x-amz-storage-class"] == "STANDARD_IA"
    refused = server("PUT", "/bucket/k", b"x", query=f"{query}&x-amz-object-lock-mode=GOVERNANCE")
    assert refused.code == "NotImplemented"


@pytest.mark.parametrize(
    ("target", "query", "document"),
    [
        ("POST /bucket", "delete", "<Delete><Object><Key>k</Key>{}</Object></Delete>"),
        ("POST /bucket", "delete", "<Delete><Object><Key>k</Key></Object>{}</Delete>"),
        ("PUT /bucket", "tagging", "<Tagging><TagSet/>{}</Tagging>"),
        ("PUT /bucket/k", "tagging", "<Tagging><TagSet>{}</TagSet></Tagging>"),
        ("PUT /bucket/k", "acl", "<AccessControlPolicy>{}</AccessControlPolicy>"),
        ("PUT /other", "", "<CreateBucketConfiguration>{}</CreateBucketConfiguration>"),
        (
            "POST /bucket/k",
            "uploadId=none",
            (
                "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag>{}</Part>"
                "</CompleteMultipartUpload>"
            ),
        ),
    ],
)
def test_an_element_that_a_document_does_not_have_is_refused(server, target, query, document):
    server.store.put_bytes("bucket", "k", b"x")
    body = document.format("<Unheard/>").encode()
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    assert server(*target.split(), body, query=query, content_md5=digest).code == "MalformedXML"
