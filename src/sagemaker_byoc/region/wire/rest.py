"""What the handlers that read requests themselves share: their protocols' error bodies."""

from __future__ import annotations

import json
from xml.etree.ElementTree import Element, SubElement, tostring

from sagemaker_byoc.contract.hosting.http import API_PAYLOAD
from sagemaker_byoc.region.wire.errors import AwsError
from sagemaker_byoc.region.wire.http import Request, Response


def invocation_too_large() -> AwsError:
    limit = API_PAYLOAD.value
    text = f"HTTP content length exceeded {limit} bytes."
    return AwsError("ValidationError", text, status=413)


def render_json_error(request: Request, error: AwsError) -> Response:
    """rest-json, as sagemaker-runtime speaks it."""
    return Response(
        status=error.status,
        headers={
            "Content-Type": "application/json",
            "x-amzn-ErrorType": error.code,
            "x-amzn-RequestId": request.id,
        },
        body=json.dumps({"message": error.message, "Message": error.message}).encode(),
    )


def render_s3_error(request: Request, error: AwsError) -> Response:
    root = Element("Error")
    SubElement(root, "Code").text = error.code
    SubElement(root, "Message").text = error.message
    SubElement(root, "Resource").text = request.path
    SubElement(root, "RequestId").text = request.id
    return Response(
        status=error.status,
        headers={"Content-Type": "application/xml", "x-amz-request-id": request.id},
        body=b"" if request.method == "HEAD" else tostring(root, "utf-8", xml_declaration=True),
    )


def render_registry_error(_request: Request, error: AwsError) -> Response:
    """The distribution protocol's body, which `docker push` shows to its user."""
    return Response(
        status=error.status,
        headers={
            "Content-Type": "application/json",
            "Docker-Distribution-API-Version": "registry/2.0",
        },
        body=json.dumps({"errors": [{"code": error.code, "message": error.message}]}).encode(),
    )


def render_cbor_error(request: Request, error: AwsError) -> Response:
    """smithy-rpc-v2-cbor: a map of two texts, so that its clients read the refusal."""
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
    """Major type 3 with a two-byte length (RFC 8949 §3)."""
    data = text.encode()[:0xFFFF]
    return b"\x79" + len(data).to_bytes(2, "big") + data
