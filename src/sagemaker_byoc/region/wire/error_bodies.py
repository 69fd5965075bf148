"""Error bodies of the protocols without a serializer: REST-JSON, S3, the registry, CBOR."""

from __future__ import annotations

import json

from sagemaker_byoc.region.wire.http import Request, Response
from sagemaker_byoc.region.wire.operations import AwsError
from sagemaker_byoc.region.wire.xml import DECLARATION, element


def render_json_error(request: Request, error: AwsError) -> Response:
    """Write REST-JSON, as sagemaker-runtime does."""
    return Response(
        status=error.status,
        headers={
            "Content-Type": "application/json",
            "x-amzn-ErrorType": error.code,
            "x-amzn-RequestId": request.id,
        },
        body=json.dumps({"message": error.message, "Message": error.message}).encode(),
    )


def render_s3_error(request: Request, error: AwsError, resource: str = "") -> Response:
    """Write S3's document. `resource` is `/BUCKET/KEY`, if that is not the path."""
    headers = {"x-amz-request-id": request.id, **error.headers}
    if request.method == "HEAD":
        return Response(status=error.status, headers=headers)
    body = element(
        "Error",
        [
            element("Code", error.code),
            element("Message", error.message),
            *(element(name, value) for name, value in error.details.items()),
            element("Resource", resource or request.path),
            element("RequestId", request.id),
        ],
    )
    return Response(
        status=error.status,
        headers={"Content-Type": "application/xml", **headers},
        body=(DECLARATION + body).encode("utf-8", "replace"),
    )


def render_registry_error(_request: Request, error: AwsError) -> Response:
    """Write the body of the distribution protocol, which `docker push` shows to its user."""
    headers = {name: value for name, value in error.headers.items() if name != "Content-Length"}
    return Response(
        status=error.status,
        headers={
            "Content-Type": "application/json",
            "Docker-Distribution-Api-Version": "registry/2.0",
            **headers,
        },
        body=json.dumps({"errors": [{"code": error.code, "message": error.message}]}).encode(),
    )


def render_cbor_error(request: Request, error: AwsError) -> Response:
    """Write a map of two texts for clients of smithy-rpc-v2-cbor."""
    pairs = {"__type": error.code, "message": error.message}
    body = b"\xa2" + b"".join(_cbor_text(text) for pair in pairs.items() for text in pair)
    return Response(
        status=error.status,
        headers={
            "Content-Type": "application/cbor",
            "smithy-protocol": "rpc-v2-cbor",
            "x-amzn-RequestId": request.id,
        },
        body=body,
    )


def _cbor_text(text: str) -> bytes:
    """Return major type 3 with a two-byte length (RFC 8949 §3)."""
    data = text.encode()[:0xFFFF]
    return b"\x79" + len(data).to_bytes(2, "big") + data
