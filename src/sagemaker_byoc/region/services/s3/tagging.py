"""Tags of buckets and objects: S3's limits, header and document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from sagemaker_byoc.contract.facts import is_reserved_tag
from sagemaker_byoc.region.services.s3.store.objects import S3Error
from sagemaker_byoc.region.services.s3.xml import Node, malformed, parse
from sagemaker_byoc.region.wire.xml import element

OBJECT_MOST = 10
BUCKET_MOST = 50
_LONGEST_KEY = 128
_LONGEST_VALUE = 256
_LEGAL = re.compile(r"[\w\s+=.:/@-]*")
"""Letters of any script, spaces, digits and + - = . _ : / @ (S3 user guide, "object tagging")."""


def of_header(text: str) -> dict[str, str]:
    """Return the tags of the header `x-amz-tagging`; raise S3Error."""
    if not text:
        return {}
    return _checked(parse_qsl(text, keep_blank_values=True), OBJECT_MOST)


def of_document(body: bytes, most: int) -> dict[str, str]:
    """Return the tags; raise S3Error MalformedXML, InvalidTag."""
    sets = parse(body, "Tagging").only("TagSet").all("TagSet")
    if len(sets) != 1:
        raise malformed()
    return of_nodes(sets[0].only("Tag").all("Tag"), most)


def of_nodes(nodes: Iterable[Node], most: int) -> dict[str, str]:
    pairs = []
    for node in nodes:
        key, value = node.only("Key", "Value").get("Key"), node.get("Value")
        if key is None or value is None:
            raise malformed()
        pairs.append((key, value))
    return _checked(pairs, most)


def tag_set(tags: Mapping[str, str]) -> str:
    return element(
        "TagSet",
        [
            element("Tag", [element("Key", key), element("Value", value)])
            for key, value in tags.items()
        ],
    )


def _checked(pairs: list[tuple[str, str]], most: int) -> dict[str, str]:
    tags = dict(sorted(pairs))
    if len(tags) < len(pairs):
        raise _invalid("Cannot provide multiple Tags with the same key")
    if len(tags) > most:
        kind = "Object" if most == OBJECT_MOST else "Bucket"
        raise _invalid(f"{kind} tags cannot be greater than {most}")
    for key, value in tags.items():
        if not 0 < len(key) <= _LONGEST_KEY or not _LEGAL.fullmatch(key):
            raise _invalid("The TagKey you have provided is invalid", key)
        if len(value) > _LONGEST_VALUE or not _LEGAL.fullmatch(value):
            raise _invalid("The TagValue you have provided is invalid", key)
        if is_reserved_tag(key):
            raise _invalid("System tags cannot be added/updated by requester", key)
    return tags


def _invalid(message: str, key: str = "") -> S3Error:
    details = {"TagKey": key} if key else {}
    return S3Error("InvalidTag", message, status=400, **details)
