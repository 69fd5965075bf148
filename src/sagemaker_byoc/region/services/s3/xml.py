"""XML documents of S3: answers, and requests, which are read with limits."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.s3.store.objects import S3Error
from sagemaker_byoc.region.wire.http import Response
from sagemaker_byoc.region.wire.xml import DECLARATION, element

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def timestamp(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def document(name: str, *elements: str, status: int = 200) -> Response:
    body = f'{DECLARATION}<{name} xmlns="{NAMESPACE}">{"".join(elements)}</{name}>'
    return Response(
        status=status, headers={"Content-Type": "application/xml"}, body=body.encode("utf-8")
    )


def checksum_elements(sums: Mapping[str, str]) -> list[str]:
    return [element(f"Checksum{name.upper()}", value) for name, value in sums.items()]


def owner_element(account: Account) -> str:
    return element("Owner", [element("ID", account.id)])


def acl_document(account: Account) -> Response:
    """Return the ACL of everything: full control for the only account."""
    instance = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    grantee = f'<Grantee {instance} xsi:type="CanonicalUser">{element("ID", account.id)}</Grantee>'
    grant = element("Grant", [grantee, element("Permission", "FULL_CONTROL")])
    grants = element("AccessControlList", [grant])
    return document("AccessControlPolicy", owner_element(account), grants)


def malformed() -> S3Error:
    return S3Error(
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
        """Return itself; raise S3Error MalformedXML if it has any other element."""
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
    """Parse a document; raise S3Error MalformedXML unless its root is `name`."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise malformed()
    try:
        node = Node(ET.fromstring(body))  # noqa: S314 - no entities, bounded length
    except (ET.ParseError, ValueError, LookupError):
        raise malformed() from None
    if node.name != name:
        raise malformed()
    return node
