"""The headers of an invocation that reach the container, and those of its answer for the caller.

Source: service model, sagemaker-runtime; developer guide, your-algorithms-inference-code: all
others are stripped.
"""

from __future__ import annotations

from collections.abc import Mapping

from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.region.containers.http_reply import Reply
from sagemaker_byoc.region.wire.operations import AwsError

_PREFIX = "x-amzn-sagemaker-"
CUSTOM_ATTRIBUTES = hosting.CUSTOM_ATTRIBUTES.value.lower()
INFERENCE_ID = hosting.INFERENCE_ID.value.lower()
TARGET_MODEL = hosting.TARGET_MODEL.value.lower()
TARGET_VARIANT = hosting.TARGET_VARIANT.value.lower()
TARGET_CONTAINER = hosting.TARGET_CONTAINER.value.lower()
SESSION_ID = hosting.SESSION_ID.value.lower()
STREAM_ACCEPT = f"{_PREFIX}accept"
STREAM_CONTENT_TYPE = "X-Amzn-SageMaker-Content-Type"
NEW_SESSION = b"x-amzn-sagemaker-new-session-id"
CLOSED_SESSION = b"x-amzn-sagemaker-closed-session-id"
INVOKED_VARIANT = "x-Amzn-Invoked-Production-Variant"

_FORWARDED = frozenset(
    {
        CUSTOM_ATTRIBUTES,
        INFERENCE_ID,
        TARGET_MODEL,
        TARGET_VARIANT,
        TARGET_CONTAINER,
        SESSION_ID,
        f"{_PREFIX}enable-explanations",
        f"{_PREFIX}inference-component",
        f"{_PREFIX}prefix-aware-id",
    }
)
BACK = {
    CUSTOM_ATTRIBUTES.encode(): hosting.CUSTOM_ATTRIBUTES.value,
    NEW_SESSION: "X-Amzn-SageMaker-New-Session-Id",
    CLOSED_SESSION: "X-Amzn-SageMaker-Closed-Session-Id",
}
_LENGTHS = {
    CUSTOM_ATTRIBUTES: hosting.CUSTOM_ATTRIBUTES_LENGTH.value,
    INFERENCE_ID: hosting.INFERENCE_ID_LENGTH.value,
}
_START = b"POST /invocations HTTP/1.1\r\nhost: model\r\ncontent-length: "


def request_head(headers: Mapping[str, str], length: int, *, is_stream: bool) -> bytes:
    """Return the head of the container's request; the names of `headers` are in lower case.

    Raise AwsError (ValidationError) for a value that SageMaker refuses.
    """
    lines = [f"{length}"]
    content_type = headers.get("content-type")
    if content_type is not None:
        lines.append(f"content-type: {content_type}")
    accept = headers.get(STREAM_ACCEPT if is_stream else "accept")
    if accept is not None:
        lines.append(f"accept: {accept}")
    for name, value in headers.items():
        if name in _FORWARDED:
            most = _LENGTHS.get(name)
            if most is not None and not (len(value) <= most and value.isascii()):
                raise AwsError(
                    "ValidationError",
                    f"The header {name} must have at most {most} visible ASCII characters",
                )
            lines.append(f"{name}: {value}")
    return _START + "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def next_head(first: bytes, content_type: str, length: int) -> bytes:
    """Return the head for the next container of a pipeline, whose request is the last answer."""
    lines = first.rstrip(b"\r\n").split(b"\r\n")[3:]
    kept = [line for line in lines if not line.startswith(b"content-type:")]
    start = _START + f"{length}\r\ncontent-type: {content_type}".encode("latin-1")
    return b"\r\n".join([start, *kept]) + b"\r\n\r\n"


def response_headers(
    reply: Reply, variant: str, request_id: str, *, is_stream: bool
) -> dict[str, str]:
    """Return the headers of a successful answer."""
    found = {INVOKED_VARIANT: variant, "x-amzn-RequestId": request_id}
    for name, value in reply.headers:
        if name == b"content-type":
            found[STREAM_CONTENT_TYPE if is_stream else "Content-Type"] = value.decode("latin-1")
        elif name in BACK:
            found[BACK[name]] = value.decode("latin-1")
    if is_stream:
        found["Content-Type"] = "application/vnd.amazon.eventstream"
    return found
