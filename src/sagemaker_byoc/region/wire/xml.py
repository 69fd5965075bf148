"""XML: elements of answers, built as text; S3's documents, and its requests, read with limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeAlias
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from sagemaker_byoc.region.wire.http import Request, Response
from sagemaker_byoc.region.wire.operations import AwsError

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
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


def document(name: str, *elements: str, status: int = 200) -> Response:
    body = f'{DECLARATION}<{name} xmlns="{NAMESPACE}">{"".join(elements)}</{name}>'
    return Response(
        status=status, headers={"Content-Type": "application/xml"}, body=body.encode("utf-8")
    )


def timestamp(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def checksum_elements(sums: Mapping[str, str]) -> list[str]:
    return [element(f"Checksum{name.upper()}", value) for name, value in sums.items()]


def malformed() -> AwsError:
    return AwsError(
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema",
    )


class Node:
    """An element of a request's document, without namespaces."""

    def __init__(self, found: ET.Element) -> None:
        self._found = found

    @property
    def name(self) -> str:
        return self._found.tag.rpartition("}")[2]

    def all(self, name: str) -> list[Node]:
        return [node for node in map(Node, self._found) if node.name == name]

    def get(self, name: str) -> str | None:
        for node in self.all(name):
            return node._found.text or ""  # noqa: SLF001 - its own kind
        return None

    def only(self, *names: str) -> Node:
        """Return itself; raise AwsError MalformedXML if it has any other element."""
        if not {node.name for node in map(Node, self._found)} <= set(names):
            raise malformed()
        return self

    def leaves(self) -> frozenset[tuple[str, str]]:
        """Return name and text of every element without children."""
        ends = (node for node in map(Node, self._found.iter()) if not len(node._found))  # noqa: SLF001
        return frozenset((node.name, (node._found.text or "").strip()) for node in ends)  # noqa: SLF001

    def items(self) -> dict[str, str]:
        return {node.name: node._found.text or "" for node in map(Node, self._found)}  # noqa: SLF001


def parse(body: bytes, name: str) -> Node:
    """Parse a document; raise AwsError MalformedXML unless its root is `name`."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise malformed()
    try:
        node = Node(ET.fromstring(body))  # noqa: S314 - no entities, bounded length
    except (ET.ParseError, ValueError, LookupError):
        raise malformed() from None
    if node.name != name:
        raise malformed()
    return node
