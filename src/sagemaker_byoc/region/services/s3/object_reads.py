"""GetObject, HeadObject and other reads of an object: ranges, conditions, attributes, tags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime

from sagemaker_byoc.region.services.s3 import object_properties
from sagemaker_byoc.region.services.s3.call import Call, Operation, Requests, Route
from sagemaker_byoc.region.services.s3.conditions import check_read, check_readable
from sagemaker_byoc.region.services.s3.object_properties import acl_document
from sagemaker_byoc.region.services.s3.store import checksums
from sagemaker_byoc.region.services.s3.store.objects import (
    Attributes,
    ObjectInfo,
    S3Error,
    invalid_argument,
)
from sagemaker_byoc.region.wire.http import (
    FileStream,
    RangeError,
    Response,
    content_range,
    parse_range,
)
from sagemaker_byoc.region.wire.xml import checksum_elements, document, element

_SMALL = 256 << 10
"""Bodies up to this size are read at once, with the attributes."""
_MOST_PARTS = 1000


class ReadRequests(Requests):
    def routes(self) -> dict[Route, Operation]:
        return {
            ("GET", "object", ""): self.get,
            ("HEAD", "object", ""): self.head,
            ("GET", "object", "attributes"): self.attributes,
            ("GET", "object", "tagging"): self.tagging,
            ("GET", "object", "acl"): self.acl,
        }

    async def get(self, call: Call) -> Response:
        return await self._threads.run_short(self._read, call)

    async def head(self, call: Call) -> Response:
        return await self._threads.run_short(self._look, call)

    async def attributes(self, call: Call) -> Response:
        stored = await self._threads.run(self._store.get, call.bucket, call.key)
        info = stored.info
        wanted = [
            name.strip() for name in call.headers.get("x-amz-object-attributes", "").split(",")
        ]
        sums = checksum_elements(info.attributes.checksums)
        sums += [element("ChecksumType", info.attributes.checksum_type)]
        parts = _parts_page(call, info.attributes)
        elements = {
            "ETag": element("ETag", info.etag),
            "Checksum": element("Checksum", sums) if info.attributes.checksums else "",
            "ObjectParts": element("ObjectParts", parts) if info.attributes.parts else "",
            "StorageClass": element("StorageClass", info.attributes.storage_class),
            "ObjectSize": element("ObjectSize", info.size),
        }
        if not set(wanted) <= set(elements):
            raise invalid_argument(
                "Invalid attribute name specified.", "x-amz-object-attributes", ",".join(wanted)
            )
        response = document(
            "GetObjectAttributesResponse",
            *(text for name, text in elements.items() if name in wanted),
        )
        response.headers["Last-Modified"] = http_date(info.modified)
        return response

    async def tagging(self, call: Call) -> Response:
        stored = await self._threads.run(self._store.get, call.bucket, call.key)
        return document("Tagging", object_properties.tag_set(stored.info.attributes.tags))

    async def acl(self, call: Call) -> Response:
        await self._threads.run(self._store.get, call.bucket, call.key)
        return acl_document(self._account)

    def _look(self, call: Call) -> Response:
        info = self._store.get(call.bucket, call.key).info
        response, span = _answer(call, info)
        if response.status < 300:
            response.headers["Content-Length"] = str(span[1])
        return response

    def _read(self, call: Call) -> Response:
        file, stored = self._store.open(call.bucket, call.key)
        try:
            response, (start, length) = _answer(call, stored.info)
            if response.status < 300:
                check_readable(stored.info)
            if response.status >= 300:
                os.close(file)
            elif length <= _SMALL:
                response.body = os.pread(file, length, start)
                os.close(file)
            else:
                response.headers["Content-Length"] = str(length)
                response.body = FileStream(file, start, length, self._threads.executor)
        except BaseException:
            os.close(file)
            raise
        return response


def http_date(time: datetime) -> str:
    return format_datetime(time, usegmt=True)


def checksum_headers(sums: Mapping[str, str], kind: str) -> dict[str, str]:
    return {**checksums.as_headers(sums), checksums.PREFIX + "type": kind} if sums else {}


def _answer(call: Call, info: ObjectInfo) -> tuple[Response, tuple[int, int]]:
    """Return status and headers, and start and length of the body."""
    _check_no_encryption(call)
    headers = {"ETag": f'"{info.etag}"', "Last-Modified": http_date(info.modified)}
    if not check_read(call.headers, info):
        return Response(status=304, headers=headers), (0, 0)
    attributes = info.attributes
    headers |= object_properties.shown(attributes)
    for name in ("content-type", *object_properties.KEPT_HEADERS):
        if value := call.query.get(f"response-{name}"):
            object_properties.check_sendable(f"response-{name}", value)
            headers[name] = value
    span = _span(call, info)
    if "partNumber" in call.query and attributes.parts:
        headers["x-amz-mp-parts-count"] = str(len(attributes.parts))
    if span is not None:
        start, length = span
        headers["Content-Range"] = content_range(start, length, info.size)
        headers |= checksum_headers(_part_sums(call, attributes), attributes.checksum_type)
        return Response(status=206, headers=headers), span
    if _wants_checksums(call):
        headers |= checksum_headers(attributes.checksums, attributes.checksum_type)
    return Response(headers=headers), (0, info.size)


def _check_no_encryption(call: Call) -> None:
    """Raise S3Error InvalidArgument for headers of encryption, which S3 refuses for reads."""
    for name in (object_properties.SSE, object_properties.KMS_KEY):
        if name in call.headers:
            raise invalid_argument(
                f"{object_properties.SSE} header is not supported for this operation.",
                name,
                call.headers[name],
            )


def _wants_checksums(call: Call) -> bool:
    return call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"


def _part_sums(call: Call, attributes: Attributes) -> dict[str, str]:
    """Return the checksum of the part that was asked for; other ranges have none."""
    number = call.query.get("partNumber")
    if number is None or not attributes.part_checksums or not _wants_checksums(call):
        return {}
    return {name: attributes.part_checksums[int(number) - 1] for name in attributes.checksums}


def _parts_page(call: Call, attributes: Attributes) -> list[str]:
    after = _count(call, "x-amz-part-number-marker", 0)
    most = min(_count(call, "x-amz-max-parts", _MOST_PARTS), _MOST_PARTS)
    sums = attributes.part_checksums or ("",) * len(attributes.parts)
    algorithm = next(iter(attributes.checksums), "")
    entries = [
        element(
            "Part",
            [
                element("PartNumber", number),
                element("Size", size),
                *checksum_elements({algorithm: value} if value else {}),
            ],
        )
        for number, (size, value) in enumerate(zip(attributes.parts, sums, strict=True), 1)
    ]
    page = entries[after : after + most]
    return [
        element("PartsCount", len(entries)),
        element("PartNumberMarker", after),
        element("NextPartNumberMarker", after + len(page)),
        element("MaxParts", most),
        element("IsTruncated", content=after + len(page) < len(entries)),
        *page,
    ]


def _count(call: Call, name: str, default: int) -> int:
    text = call.headers.get(name, str(default))
    if not text.isdecimal() or len(text) > 9:
        raise invalid_argument("Provided value not an integer or within range", name, text)
    return int(text)


def _span(call: Call, info: ObjectInfo) -> tuple[int, int] | None:
    number = call.query.get("partNumber")
    if number is None:
        return _range(call.headers.get("range", ""), info.size)
    if "range" in call.headers:
        raise S3Error(
            "InvalidRequest", "Cannot specify both Range header and partNumber query parameter"
        )
    sizes = info.attributes.parts or (info.size,)
    index = int(number) if number.isdecimal() and len(number) < 6 else 0
    if not 1 <= index <= len(sizes):
        raise S3Error(
            "InvalidPartNumber",
            "The requested partnumber is not satisfiable",
            status=416,
            PartNumberRequested=number,
            ActualPartCount=str(len(sizes)),
        )
    return (sum(sizes[: index - 1]), sizes[index - 1]) if info.size else None


def _range(header: str, size: int) -> tuple[int, int] | None:
    try:
        return parse_range(header, size)
    except RangeError as error:
        raise S3Error(
            "InvalidRange",
            str(error),
            status=416,
            RangeRequested=header,
            ActualObjectSize=str(size),
        ) from error
