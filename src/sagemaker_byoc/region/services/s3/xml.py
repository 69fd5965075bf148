"""S3's documents: built as text, read with limits."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TypeAlias
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.s3.store.s3_errors import S3Error
from sagemaker_byoc.region.wire.http import Response

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_CONTROL = re.compile(r"[\x00-\x1f]")

Content: TypeAlias = "str | int | bool | list[str] | None"


def element(name: str, content: Content) -> str:
    """Of text, or of elements; nothing at all for None."""
    if content is None:
        return ""
    if isinstance(content, list):
        return f"<{name}>{''.join(content)}</{name}>"
    if isinstance(content, bool):
        return f"<{name}>{str(content).lower()}</{name}>"
    return f"<{name}>{text(str(content))}</{name}>"


def text(value: str) -> str:
    """Escaped. Characters that XML 1.0 has no place for go out as references, as S3 does it:
    clients that want to read such keys ask for `encoding-type=url`."""
    return _CONTROL.sub(lambda match: f"&#x{ord(match[0]):x};", escape(value, {'"': "&quot;"}))


def timestamp(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def document(name: str, *elements: str, status: int = 200) -> Response:
    body = f'{_HEAD}<{name} xmlns="{NAMESPACE}">{"".join(elements)}</{name}>'
    return Response(
        status=status, headers={"Content-Type": "application/xml"}, body=body.encode("utf-8")
    )


def owner_element(account: Account) -> str:
    return element("Owner", [element("ID", account.id)])


def acl_document(account: Account) -> Response:
    """Everything belongs to the one account that there is."""
    instance = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    grantee = f'<Grantee {instance} xsi:type="CanonicalUser">{element("ID", account.id)}</Grantee>'
    grant = element("Grant", [grantee, element("Permission", "FULL_CONTROL")])
    grants = element("AccessControlList", [grant])
    return document("AccessControlPolicy", owner_element(account), grants)


def error_document(error: S3Error, resource: str, request_id: str) -> Response:
    body = element(
        "Error",
        [
            element("Code", error.code),
            element("Message", error.message),
            *(element(name, value) for name, value in error.details.items()),
            element("Resource", resource),
            element("RequestId", request_id),
        ],
    )
    return Response(
        status=error.status,
        headers={"Content-Type": "application/xml"},
        body=(_HEAD + body).encode("utf-8", "replace"),
    )


def malformed() -> S3Error:
    return S3Error(
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema",
    )


class Node:
    """An element of a request's document; namespaces are let go."""

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
        """Itself; raises S3Error MalformedXML if it has any other element."""
        if not {node.name for node in map(Node, self._found)} <= set(names):
            raise malformed()
        return self

    def leaves(self) -> frozenset[tuple[str, str]]:
        """Name and text of every element in it that holds no other."""
        ends = (node for node in map(Node, self._found.iter()) if not len(node._found))  # noqa: SLF001
        return frozenset((node.name, (node._found.text or "").strip()) for node in ends)  # noqa: SLF001

    def items(self) -> dict[str, str]:
        return {node.name: node._found.text or "" for node in map(Node, self._found)}  # noqa: SLF001


def parse(body: bytes, name: str) -> Node:
    """Raises S3Error MalformedXML unless it is a document of that name."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise malformed()
    try:
        node = Node(ET.fromstring(body))  # noqa: S314 - no entities, bounded length
    except (ET.ParseError, ValueError, LookupError):
        raise malformed() from None
    if node.name != name:
        raise malformed()
    return node
