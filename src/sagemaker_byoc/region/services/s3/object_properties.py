"""Properties of an object: headers, encryption, ACL and tags, as they are sent, kept and shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import parse_qsl

from sagemaker_byoc.contract.facts import is_reserved_tag
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.s3.store import checksums
from sagemaker_byoc.region.services.s3.store.objects import (
    ARCHIVED,
    BINARY,
    STORAGE_CLASS,
    Attributes,
    S3Error,
    invalid_argument,
    unsupported,
)
from sagemaker_byoc.region.wire.http import CONTROL, Response
from sagemaker_byoc.region.wire.xml import Node, document, element, malformed, parse

SSE = "x-amz-server-side-encryption"
KMS_KEY = f"{SSE}-aws-kms-key-id"
_CONTEXT = f"{SSE}-context"
BUCKET_KEY = f"{SSE}-bucket-key-enabled"
REDIRECT = "x-amz-website-redirect-location"
_META = "x-amz-meta-"
_MAX_METADATA = 2048
KEPT_HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)
_NOT_COPIED = (SSE, KMS_KEY, _CONTEXT, BUCKET_KEY, REDIRECT, STORAGE_CLASS)
"""Headers that a copy gets only from its own request (reference of CopyObject)."""

_STORAGE_CLASSES = ARCHIVED | {
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
}
_CANNED = frozenset(
    {
        "private",
        "public-read",
        "public-read-write",
        "authenticated-read",
        "aws-exec-read",
        "bucket-owner-read",
        "bucket-owner-full-control",
        "log-delivery-write",
    }
)
OWNERS_ALONE = frozenset({"private", "bucket-owner-full-control"})
"""Canned ACLs that grant nothing to others: a bucket without ACLs accepts them."""
_GRANTS = tuple(
    f"x-amz-grant-{name}" for name in ("full-control", "read", "read-acp", "write", "write-acp")
)

MOST_OBJECT_TAGS = 10
MOST_BUCKET_TAGS = 50
_LONGEST_TAG_KEY = 128
_LONGEST_TAG_VALUE = 256
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name (RFC 9110, section 5.6.2)."""
_NOT_LATIN = re.compile(r"[^\x00-\xff]")
_LEGAL_TAG = re.compile(r"[\w\s+=.:/@-]*")
"""Letters of any script, spaces, digits and + - = . _ : / @ (S3 user guide, "object tagging")."""


def sent_attributes(headers: Mapping[str, str], account: Account) -> Attributes:
    """Return the attributes that a put sends.

    Raise S3Error for what this store does not keep, and for what S3 refuses.
    """
    if not takes_acl(headers, account):
        raise acls_disabled()
    kept = {name: headers[name] for name in KEPT_HEADERS if name in headers}
    words = kept.pop("content-encoding", "").split(",")
    # `aws-chunked` describes the transfer; the rest is returned with its spaces.
    if coding := ",".join(word for word in words if word.strip() != "aws-chunked").strip():
        kept["content-encoding"] = coding
    return Attributes(
        etag="",
        content_type=headers.get("content-type") or BINARY,
        metadata=_metadata(headers),
        headers={**kept, **placement(headers, account)},
        tags=header_tags(headers.get("x-amz-tagging", "")),
    )


def placement(headers: Mapping[str, str], account: Account) -> dict[str, str]:
    """Return how the object is to be stored; a copy does not take this from its source."""
    return {**_storage_class(headers), **_redirect(headers), **_encryption(headers, account)}


def copied(before: Attributes, headers: Mapping[str, str], account: Account) -> Attributes:
    """Return the attributes of a copy, following its two directives; raise S3Error."""
    sent = sent_attributes(headers, account)
    if directive(headers, "x-amz-metadata-directive") == "COPY":
        inherited = {
            name: value for name, value in before.headers.items() if name not in _NOT_COPIED
        }
        sent = replace(
            sent,
            content_type=before.content_type,
            metadata=before.metadata,
            headers={**inherited, **placement(headers, account)},
        )
    if directive(headers, "x-amz-tagging-directive") == "COPY":
        sent = replace(sent, tags=before.tags)
    return sent


def changes_itself(headers: Mapping[str, str]) -> bool:
    """Return whether a copy of an object onto itself changes anything, and so is allowed."""
    asked = (directive(headers, "x-amz-metadata-directive"), *(headers.get(n) for n in _NOT_COPIED))
    return asked[0] == "REPLACE" or any(asked[1:])


def directive(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "COPY")
    if value not in {"COPY", "REPLACE"}:
        kind = "metadata" if "metadata" in name else "tagging"
        raise invalid_argument(f"Unknown {kind} directive.", name, value)
    return value


def shown(attributes: Attributes) -> dict[str, str]:
    """Return the headers of GetObject and HeadObject that describe the object."""
    headers = {name: value for name, value in attributes.headers.items() if name != _CONTEXT}
    headers |= {f"{_META}{name}": value for name, value in attributes.metadata.items()}
    headers |= {"content-type": attributes.content_type, "Accept-Ranges": "bytes"}
    headers.setdefault(SSE, "AES256")
    if attributes.tags:
        headers["x-amz-tagging-count"] = str(len(attributes.tags))
    return headers


def encryption_headers(attributes: Attributes) -> dict[str, str]:
    """Return the headers about encryption: AES256 unless the client asked for something else."""
    found = {name: attributes.headers[name] for name in _SSE_SHOWN if name in attributes.headers}
    return {SSE: "AES256", **found}


_SSE_SHOWN = (SSE, KMS_KEY, _CONTEXT, BUCKET_KEY)


def check_checksum_type(algorithm: str, kind: str) -> None:
    """Raise S3Error InvalidRequest if the checksum can't be computed from parts."""
    crc = algorithm in checksums.CRC or not algorithm
    unfit = not crc if kind == "FULL_OBJECT" else algorithm == "crc64nvme"
    if kind not in {"FULL_OBJECT", "COMPOSITE"} or unfit:
        raise S3Error(
            "InvalidRequest",
            f"The {kind} checksum type cannot be used with the {algorithm} checksum algorithm.",
        )


def takes_acl(headers: Mapping[str, str], account: Account) -> bool:
    """Return False for ACLs that grant anything to others; raise S3Error InvalidArgument."""
    canned = headers.get("x-amz-acl")
    if canned is not None and canned not in _CANNED:
        raise invalid_argument("", "x-amz-acl", canned)
    grants = {name: headers[name] for name in _GRANTS if name in headers}
    own = {"x-amz-grant-full-control": f'id="{account.id}"'}
    return (canned is None or canned in OWNERS_ALONE) and (not grants or grants == own)


def acls_disabled() -> S3Error:
    return S3Error("AccessControlListNotSupported", "The bucket does not allow ACLs")


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    metadata = {
        name.removeprefix(_META): value for name, value in headers.items() if name.startswith(_META)
    }
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > _MAX_METADATA:
        raise S3Error(
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size",
            Size=str(size),
            MaxSizeAllowed=str(_MAX_METADATA),
        )
    return metadata


def _storage_class(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the header of the class; nothing for STANDARD, as S3 does."""
    name = headers.get(STORAGE_CLASS, "STANDARD")
    if name not in _STORAGE_CLASSES:
        raise S3Error(
            "InvalidStorageClass",
            "The storage class you specified is not valid",
            StorageClassRequested=name,
        )
    return {} if name == "STANDARD" else {STORAGE_CLASS: name}


def _redirect(headers: Mapping[str, str]) -> dict[str, str]:
    target = headers.get(REDIRECT)
    if target is None:
        return {}
    if not target.startswith(("/", "http://", "https://")):
        raise S3Error(
            "InvalidRedirectLocation",
            "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
        )
    return {REDIRECT: target}


def _encryption(headers: Mapping[str, str], account: Account) -> dict[str, str]:
    """Return the settings as they are asked for; nothing is encrypted on this machine's disk."""
    method, key, bucket_key = headers.get(SSE), headers.get(KMS_KEY), headers.get(BUCKET_KEY)
    if method not in {None, "AES256", "aws:kms", "aws:kms:dsse"}:
        raise invalid_argument("The encryption method specified is not supported", SSE, str(method))
    by_kms = method is not None and method.startswith("aws:kms")
    for name in (KMS_KEY, _CONTEXT):
        if name in headers and not by_kms:
            raise invalid_argument(
                "Server Side Encryption with AWS KMS managed key requires HTTP header"
                f" {SSE} : aws:kms",
                SSE,
                method or "null",
            )
    if not by_kms:
        return {}  # a bucket key means nothing without KMS
    kept = {SSE: str(method), KMS_KEY: key or account.arn("kms", "alias/aws/s3")}
    if _CONTEXT in headers:
        kept[_CONTEXT] = headers[_CONTEXT]
    if bucket_key is not None and bucket_key.lower() == "true":
        kept[BUCKET_KEY] = "true"
    return kept


_SSE_C = f"{SSE}-customer-"
_REFUSED = (
    _SSE_C,
    f"x-amz-copy-source-{_SSE_C.removeprefix('x-amz-')}",
    "x-amz-object-lock-",
    "x-amz-object-annotation-",
    "x-amz-write-offset-bytes",
    "x-amz-mfa",
    *(checksums.PREFIX + name for name in checksums.UNKNOWN),
)
"""Prefixes of headers that this store does not support."""


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise S3Error for a header that would be ignored, in any operation."""
    for name in headers:
        if name.startswith(_REFUSED):
            if name.startswith(_SSE_C) and SSE in headers:
                raise invalid_argument(
                    "Server Side Encryption with Customer provided key is incompatible with the"
                    " encryption method specified",
                    SSE,
                    headers[SSE],
                )
            raise unsupported(name)


def check_sendable(name: str, value: str) -> None:
    """Raise S3Error for a header that no response can have: a form or a query may hold any text."""
    if _TOKEN.fullmatch(name) is None:
        raise invalid_argument("Header name is not a token.", ascii(name)[:100], ascii(value)[:100])
    if CONTROL.search(value) or _NOT_LATIN.search(value):
        raise invalid_argument(
            "Header value cannot be represented using ISO-8859-1.", name, ascii(value)[:100]
        )


def header_tags(text: str) -> dict[str, str]:
    """Return the tags of the header `x-amz-tagging`; raise S3Error."""
    if not text:
        return {}
    return _checked_tags(parse_qsl(text, keep_blank_values=True), MOST_OBJECT_TAGS)


def document_tags(body: bytes, most: int) -> dict[str, str]:
    """Return the tags; raise AwsError MalformedXML, InvalidTag."""
    sets = parse(body, "Tagging").only("TagSet").all("TagSet")
    if len(sets) != 1:
        raise malformed()
    return node_tags(sets[0].only("Tag").all("Tag"), most)


def node_tags(nodes: Iterable[Node], most: int) -> dict[str, str]:
    pairs = []
    for node in nodes:
        key, value = node.only("Key", "Value").get("Key"), node.get("Value")
        if key is None or value is None:
            raise malformed()
        pairs.append((key, value))
    return _checked_tags(pairs, most)


def tag_set(tags: Mapping[str, str]) -> str:
    return element(
        "TagSet",
        [
            element("Tag", [element("Key", key), element("Value", value)])
            for key, value in tags.items()
        ],
    )


def _checked_tags(pairs: list[tuple[str, str]], most: int) -> dict[str, str]:
    tags = dict(sorted(pairs))
    if len(tags) < len(pairs):
        raise _invalid_tag("Cannot provide multiple Tags with the same key")
    if len(tags) > most:
        kind = "Object" if most == MOST_OBJECT_TAGS else "Bucket"
        raise _invalid_tag(f"{kind} tags cannot be greater than {most}")
    for key, value in tags.items():
        if not 0 < len(key) <= _LONGEST_TAG_KEY or not _LEGAL_TAG.fullmatch(key):
            raise _invalid_tag("The TagKey you have provided is invalid", key)
        if len(value) > _LONGEST_TAG_VALUE or not _LEGAL_TAG.fullmatch(value):
            raise _invalid_tag("The TagValue you have provided is invalid", key)
        if is_reserved_tag(key):
            raise _invalid_tag("System tags cannot be added/updated by requester", key)
    return tags


def _invalid_tag(message: str, key: str = "") -> S3Error:
    details = {"TagKey": key} if key else {}
    return S3Error("InvalidTag", message, status=400, **details)


def owner_element(account: Account) -> str:
    return element("Owner", [element("ID", account.id)])


def acl_document(account: Account) -> Response:
    """Return the ACL of everything: full control for the only account."""
    instance = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    grantee = f'<Grantee {instance} xsi:type="CanonicalUser">{element("ID", account.id)}</Grantee>'
    grant = element("Grant", [grantee, element("Permission", "FULL_CONTROL")])
    grants = element("AccessControlList", [grant])
    return document("AccessControlPolicy", owner_element(account), grants)
