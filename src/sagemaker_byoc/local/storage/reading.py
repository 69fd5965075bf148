"""GetObject and HeadObject: ranges, conditions, and bytes that never lie in memory together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Executor
from datetime import datetime
from email.utils import format_datetime

from sagemaker_byoc.local.storage import checksums
from sagemaker_byoc.local.storage.call import Call, Operation, Route
from sagemaker_byoc.local.storage.conditions import check_read, parse_range
from sagemaker_byoc.local.storage.errors import S3Error
from sagemaker_byoc.local.storage.objects import ObjectInfo
from sagemaker_byoc.local.storage.store import ObjectStore
from sagemaker_byoc.local.storage.threads import Threads
from sagemaker_byoc.local.storage.xml import document, element
from sagemaker_byoc.local.wire.http import Response

_SMALL = 256 << 10
"""Up to this many bytes are read at once, with the attributes."""
_CHUNK = 1 << 20
_OVERRIDES = (
    "content-type",
    "content-language",
    "expires",
    "cache-control",
    "content-disposition",
    "content-encoding",
)


class ReadRequests:
    def __init__(self, store: ObjectStore, threads: Threads) -> None:
        self._store = store
        self._threads = threads

    def routes(self) -> dict[Route, Operation]:
        return {
            ("GET", "object", ""): self.get,
            ("HEAD", "object", ""): self.head,
            ("GET", "object", "attributes"): self.attributes,
            ("GET", "object", "tagging"): self.tagging,
        }

    async def get(self, call: Call) -> Response:
        return await self._threads.run(self._read, call)

    async def head(self, call: Call) -> Response:
        return await self._threads.run(self._look, call)

    async def attributes(self, call: Call) -> Response:
        stored = await self._threads.run(self._store.get, call.bucket, call.key)
        info = stored.info
        wanted = {
            name.strip() for name in call.headers.get("x-amz-object-attributes", "").split(",")
        }
        sums = [_checksum_element(*item) for item in info.attributes.checksums.items()]
        parts = [element("PartsCount", len(info.attributes.parts))]
        elements = {
            "ETag": element("ETag", info.etag),
            "Checksum": element("Checksum", sums) if sums else "",
            "ObjectParts": element("ObjectParts", parts) if info.attributes.parts else "",
            "StorageClass": element("StorageClass", "STANDARD"),
            "ObjectSize": element("ObjectSize", info.size),
        }
        response = document(
            "GetObjectAttributesResponse",
            *(text for name, text in elements.items() if name in wanted),
        )
        response.headers["Last-Modified"] = http_date(info.modified)
        return response

    async def tagging(self, call: Call) -> Response:
        await self._threads.run(self._store.get, call.bucket, call.key)
        return document("Tagging", element("TagSet", []))

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


class FileStream(AsyncIterator[bytes]):
    """Part of an open file; the next piece is read while one is sent. Closes the file."""

    def __init__(self, file: int, start: int, length: int, threads: Executor) -> None:
        self._file: int | None = file
        self._position = start
        self._end = start + length
        self._threads = threads
        self._reading: asyncio.Future[bytes] | None = None

    def __aiter__(self) -> FileStream:
        return self

    async def __anext__(self) -> bytes:
        if self._reading is None:
            self._reading = self._read()
        if self._reading is None:
            await self.aclose()
            raise StopAsyncIteration
        data = await self._reading
        if not data:
            await self.aclose()
            raise ConnectionError("the file became shorter while it was sent")
        self._position += len(data)
        self._reading = self._read()
        return data

    async def aclose(self) -> None:
        if self._reading is not None and not self._reading.done():
            await asyncio.wait([self._reading])
        self._reading = None
        self._close()

    def __del__(self) -> None:
        """A response may be dropped before its first byte was asked for."""
        self._close()

    def _read(self) -> asyncio.Future[bytes] | None:
        length = min(_CHUNK, self._end - self._position)
        if length <= 0 or self._file is None:
            return None
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._threads, os.pread, self._file, length, self._position)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def http_date(time: datetime) -> str:
    return format_datetime(time, usegmt=True)


def checksum_headers(attributes: Mapping[str, str], kind: str) -> dict[str, str]:
    if not attributes:
        return {}
    headers = {checksums.PREFIX + name: value for name, value in attributes.items()}
    return {**headers, checksums.PREFIX + "type": kind}


def _answer(call: Call, info: ObjectInfo) -> tuple[Response, tuple[int, int]]:
    """Status and headers, and start and length of what is asked for."""
    headers = {"ETag": f'"{info.etag}"', "Last-Modified": http_date(info.modified)}
    if not check_read(call.headers, info):
        return Response(status=304, headers=headers), (0, 0)
    attributes = info.attributes
    headers |= attributes.headers
    headers |= {f"x-amz-meta-{name}": value for name, value in attributes.metadata.items()}
    headers |= {"content-type": attributes.content_type, "Accept-Ranges": "bytes"}
    for name in _OVERRIDES:
        if value := call.query.get(f"response-{name}"):
            headers[name] = value
    span = _span(call, info)
    if "partNumber" in call.query and attributes.parts:
        headers["x-amz-mp-parts-count"] = str(len(attributes.parts))
    if span is not None:
        start, length = span
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{info.size}"
        return Response(status=206, headers=headers), span
    if call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        headers |= checksum_headers(attributes.checksums, attributes.checksum_type)
    return Response(headers=headers), (0, info.size)


def _span(call: Call, info: ObjectInfo) -> tuple[int, int] | None:
    number = call.query.get("partNumber")
    if number is None:
        return parse_range(call.headers.get("range"), info.size)
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


def _checksum_element(algorithm: str, value: str) -> str:
    return element(f"Checksum{algorithm.upper()}", value.partition("-")[0])
