"""A parsed S3 request: its operation, bucket and key; and the base of all operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.threads import Threads
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import S3Error
from sagemaker_byoc.region.wire.http import Request, Response
from sagemaker_byoc.region.wire.signatures import LONGEST_PRESIGNED

SUBRESOURCES = (
    "accelerate", "acl", "analytics", "attributes", "cors", "delete", "encryption", "inventory",
    "intelligent-tiering", "legal-hold", "lifecycle", "location", "logging", "metrics",
    "notification", "object-lock", "ownershipControls", "policy", "policyStatus",
    "publicAccessBlock", "renameObject", "replication", "requestPayment", "restore", "retention",
    "select", "session", "tagging", "torrent", "uploadId", "uploads", "versioning", "versions",
    "website", "metadataTable", "metadataConfiguration", "abac", "encryptionConfiguration",
    "annotation", "metadataAnnotationTable", "metadataInventoryTable", "metadataJournalTable",
)  # fmt: skip
"""What a query may name instead of the bucket or object itself (S3's service model)."""


_PARAMETERS = frozenset(
    {
        "bucket-region", "continuation-token", "delimiter", "encoding-type", "fetch-owner",
        "key-marker", "marker", "max-buckets", "max-keys", "max-parts", "max-uploads",
        "part-number-marker", "prefix", "start-after", "upload-id-marker", "version-id-marker",
        "versionId",
    }
)  # fmt: skip
"""Parameters without a value that do not name a sub-resource."""

_SIGNING = frozenset(
    {
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
    }
)

Route: TypeAlias = tuple[str, str, str]
"""Method; `service`, `bucket` or `object`; subresource or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    request: Request
    bucket: str
    key: str
    query: Mapping[str, str]
    subresource: str

    @property
    def headers(self) -> Mapping[str, str]:
        return self.request.headers

    @property
    def route(self) -> Route:
        level = "object" if self.key else "bucket" if self.bucket else "service"
        method = self.request.method
        if method == "PUT" and level == "object" and "x-amz-copy-source" in self.headers:
            method = "COPY"
        return (method, level, self.subresource)


Operation: TypeAlias = Callable[[Call], Awaitable[Response]]


class Requests:
    """The operations of one kind; a subclass has `routes`, a table of them."""

    def __init__(self, store: ObjectStore, account: Account, threads: Threads) -> None:
        self._store = store
        self._account = account
        self._threads = threads


def parse(request: Request) -> Call:
    """Parse a path-style request; raise S3Error InvalidURI."""
    bucket, _, key = request.target.removeprefix("/").partition("/")
    query = request.query
    return Call(
        request=_with_signed_headers(request, query),
        bucket=_unquote(bucket),
        key=_unquote(key),
        query=query,
        subresource=_subresource(request.query_string, query) if query else "",
    )


def _subresource(text: str, query: Mapping[str, str]) -> str:
    return next((name for name in SUBRESOURCES if name in query), "") or _flag(text)


def _flag(query: str) -> str:
    """Return a sub-resource that is newer than our list: it must not pass for the resource."""
    words = (word for word in query.split("&") if word and "=" not in word)
    return next((word for word in words if word not in _PARAMETERS), "")


def _with_signed_headers(request: Request, query: Mapping[str, str]) -> Request:
    """Move headers out of the query of a presigned URL."""
    if "X-Amz-Signature" not in query:
        return request
    moved = {
        name.lower(): value
        for name, value in query.items()
        if name.lower().startswith("x-amz-") and name not in _SIGNING
    }
    return replace(request, headers={**moved, **request.headers}) if moved else request


def check_presigned(query: Mapping[str, str], now: datetime) -> None:
    """Raise S3Error if a URL has expired or has no end; the signature was verified before."""
    if "X-Amz-Expires" in query:
        try:
            signed = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            seconds = int(query["X-Amz-Expires"])
        except (KeyError, ValueError):
            seconds = -1
            signed = now
        if not 0 <= seconds <= LONGEST_PRESIGNED:
            raise S3Error(
                "AuthorizationQueryParametersError",
                f"X-Amz-Expires must be between 0 and {LONGEST_PRESIGNED} seconds, and X-Amz-Date"
                " must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
            )
        expires = signed + timedelta(seconds=seconds)
    elif "Expires" in query and "Signature" in query:
        if not query["Expires"].isdecimal() or len(query["Expires"]) > 11:
            raise S3Error(
                "AccessDenied", "Invalid date (should be seconds since epoch)", status=403
            )
        expires = datetime.fromtimestamp(int(query["Expires"]), UTC)
    else:
        return
    if expires < now:
        raise S3Error(
            "AccessDenied",
            "Request has expired",
            status=403,
            Expires=expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            ServerTime=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )


def _unquote(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "Couldn't parse the specified URI.", URI=text) from None
