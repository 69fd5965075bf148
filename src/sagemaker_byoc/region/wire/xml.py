"""XML of answers, built as text, and S3's error document."""

from __future__ import annotations

import re
from typing import TypeAlias
from xml.sax.saxutils import escape

from sagemaker_byoc.region.wire.http import Request, Response
from sagemaker_byoc.region.wire.operations import AwsError

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_CONTROL = re.compile(r"[\x00-\x1f]")

Content: TypeAlias = "str | int | bool | list[str] | None"


def element(name: str, content: Content) -> str:
    """Return an element with text or with elements in it; an empty text for None."""
    if content is None:
        return ""
    if isinstance(content, list):
        return f"<{name}>{''.join(content)}</{name}>"
    if isinstance(content, bool):
        return f"<{name}>{str(content).lower()}</{name}>"
    return f"<{name}>{escaped(str(content))}</{name}>"


def escaped(value: str) -> str:
    """Return `value` escaped.

    Characters that XML 1.0 does not allow are written as references, as S3 does: clients that want
    to read such keys ask for `encoding-type=url`.
    """
    return _CONTROL.sub(lambda match: f"&#x{ord(match[0]):x};", escape(value, {'"': "&quot;"}))


def render_s3_error(request: Request, error: AwsError) -> Response:
    """Write S3's document. The request has its bucket in the path."""
    headers = {"x-amz-request-id": request.id, **error.headers}
    if request.method == "HEAD":
        return Response(status=error.status, headers=headers)
    body = element(
        "Error",
        [
            element("Code", error.code),
            element("Message", error.message),
            *(element(name, value) for name, value in error.details.items()),
            element("Resource", request.path),
            element("RequestId", request.id),
        ],
    )
    return Response(
        status=error.status,
        headers={"Content-Type": "application/xml", **headers},
        body=(DECLARATION + body).encode("utf-8", "replace"),
    )
