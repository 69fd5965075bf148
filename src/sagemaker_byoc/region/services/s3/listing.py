"""ListObjects in its three shapes: v1, v2, and the versions that an unversioned bucket has."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from sagemaker_byoc.region.services.s3.call import Call, Operation, Requests, Route
from sagemaker_byoc.region.services.s3.object_properties import owner_element
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import ObjectInfo, S3Error, invalid_argument
from sagemaker_byoc.region.wire.http import Response
from sagemaker_byoc.region.wire.xml import document, element, escaped, timestamp

MOST_KEYS = 1000
_UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters that XML parsers refuse, even as references."""


@dataclass(slots=True)
class Page:
    contents: list[ObjectInfo] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    truncated: bool = False
    last: str = ""
    """The last key or common prefix; the next page starts after it."""


def list_page(store: ObjectStore, call: Call, after: str, most: int) -> Page:
    prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "").encode()
    skipped = len(prefix.encode())
    files = store.files(call.bucket)
    walk = store.walk(call.bucket, prefix, after)
    page = Page()
    if most == 0:
        return page
    for key, path in walk:
        end = key.find(delimiter, skipped) if delimiter else -1
        common = key[: end + len(delimiter)] if end >= 0 else b""
        if common:
            walk.skip(common)
            if common == after.encode():
                continue
        if len(page.contents) + len(page.prefixes) == most:
            page.truncated = True
            break
        if common:
            page.last = common.decode("utf-8", "replace")
            page.prefixes.append(page.last)
        elif (info := store.info(files, key, path)) is not None:
            page.last = info.key
            page.contents.append(info)
    return page


class ListRequests(Requests):
    def routes(self) -> dict[Route, Operation]:
        return {("GET", "bucket", ""): self.list, ("GET", "bucket", "versions"): self.versions}

    async def list(self, call: Call) -> Response:
        version = call.query.get("list-type")
        if version not in {None, "2"}:
            raise S3Error("InvalidArgument", f"Invalid list-type {version!r}: 2, or none")
        build = self._first if version is None else self._second
        return await self._threads.run(build, call)

    async def versions(self, call: Call) -> Response:
        return await self._threads.run(self._versions, call)

    def _first(self, call: Call) -> Response:
        marker = call.query.get("marker", "")
        page, most, coded = self._page(call, marker)
        next_marker = page.last if page.truncated and call.query.get("delimiter") else None
        prefix = call.query.get("prefix", "")
        return document(
            "ListBucketResult",
            element("Name", call.bucket),
            # botocore decodes every name of this version except the prefix.
            element("Prefix", coded(prefix) if _UNREADABLE.search(prefix) else prefix),
            element("Marker", coded(marker)),
            element("NextMarker", coded(next_marker) if next_marker is not None else None),
            *_common(call, page, most, coded),
            *(self._contents(info, coded, owner=True) for info in page.contents),
        )

    def _second(self, call: Call) -> Response:
        token, start = call.query.get("continuation-token"), call.query.get("start-after", "")
        after = start if token is None else _from_token(token)
        page, most, coded = self._page(call, after)
        owner = call.query.get("fetch-owner") == "true"
        return document(
            "ListBucketResult",
            element("Name", call.bucket),
            element("Prefix", coded(call.query.get("prefix", ""))),
            element("KeyCount", len(page.contents) + len(page.prefixes)),
            element("StartAfter", coded(start) if start else None),
            element("ContinuationToken", token),
            element("NextContinuationToken", _to_token(page.last) if page.truncated else None),
            *_common(call, page, most, coded),
            *(self._contents(info, coded, owner=owner) for info in page.contents),
        )

    def _versions(self, call: Call) -> Response:
        marker = call.query.get("key-marker", "")
        version = call.query.get("version-id-marker", "")
        if version and not marker:
            raise invalid_argument(
                "A version-id marker cannot be specified without a key marker.",
                "version-id-marker",
                version,
            )
        page, most, coded = self._page(call, marker)
        following = page.last if page.truncated else None
        return document(
            "ListVersionsResult",
            element("Name", call.bucket),
            element("Prefix", coded(call.query.get("prefix", ""))),
            element("KeyMarker", coded(marker)),
            element("VersionIdMarker", version),
            element("NextKeyMarker", None if following is None else coded(following)),
            element("NextVersionIdMarker", None if following is None else "null"),
            *_common(call, page, most, coded),
            *(self._version(info, coded) for info in page.contents),
        )

    def _page(self, call: Call, after: str) -> tuple[Page, int, Callable[[str], str]]:
        optional = call.headers.get("x-amz-optional-object-attributes", "RestoreStatus")
        if optional != "RestoreStatus":  # only archives have others, and can't be restored here
            raise invalid_argument("", "x-amz-optional-object-attributes", optional)
        most = _most(call.query.get("max-keys"))
        return list_page(self._store, call, after, most), most, coding(call)

    def _contents(self, info: ObjectInfo, coded: Callable[[str], str], *, owner: bool) -> str:
        sums = info.attributes.checksums
        return (
            f"<Contents><Key>{escaped(coded(info.key))}</Key>"
            f"<LastModified>{timestamp(info.modified)}</LastModified>"
            f"<ETag>&quot;{info.etag}&quot;</ETag>"
            + "".join(element("ChecksumAlgorithm", name.upper()) for name in sums)
            + (element("ChecksumType", info.attributes.checksum_type) if sums else "")
            + f"<Size>{info.size}</Size>{owner_element(self._account) if owner else ''}"
            f"<StorageClass>{info.attributes.storage_class}</StorageClass></Contents>"
        )

    def _version(self, info: ObjectInfo, coded: Callable[[str], str]) -> str:
        sums = info.attributes.checksums
        return element(
            "Version",
            [
                element("Key", coded(info.key)),
                element("VersionId", "null"),
                element("IsLatest", content=True),
                element("LastModified", timestamp(info.modified)),
                element("ETag", f'"{info.etag}"'),
                *(element("ChecksumAlgorithm", name.upper()) for name in sums),
                element("ChecksumType", info.attributes.checksum_type if sums else None),
                element("Size", info.size),
                element("StorageClass", info.attributes.storage_class),
                owner_element(self._account),
            ],
        )


def coding(call: Call) -> Callable[[str], str]:
    """Return how keys are encoded; raise S3Error InvalidArgument."""
    kind = call.query.get("encoding-type")
    if kind not in {None, "url"}:
        raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request")
    return str if kind is None else quote


def _common(call: Call, page: Page, most: int, coded: Callable[[str], str]) -> list[str]:
    delimiter = call.query.get("delimiter")
    return [
        element("MaxKeys", most),
        element("Delimiter", coded(delimiter) if delimiter else None),
        element("EncodingType", call.query.get("encoding-type")),
        element("IsTruncated", content=page.truncated),
        *(element("CommonPrefixes", [element("Prefix", coded(name))]) for name in page.prefixes),
    ]


def _most(value: str | None) -> int:
    if value is None:
        return MOST_KEYS
    if not value.isdecimal() or not value.isascii() or int(value[:11]) > 2**31 - 1:
        raise invalid_argument(
            "Provided max-keys not an integer or within integer range", "max-keys", value
        )
    return min(int(value), MOST_KEYS)


def _to_token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _from_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:  # neither base64 nor UTF-8, or not even ASCII
        raise S3Error(
            "InvalidArgument",
            "The continuation token provided is incorrect",
            ArgumentName="continuation-token",
        ) from None
