"""The requests of a multipart upload."""

from __future__ import annotations

from dataclasses import replace

from sagemaker_byoc.local.account import Account
from sagemaker_byoc.local.storage import checksums
from sagemaker_byoc.local.storage.call import Call, Operation, Route
from sagemaker_byoc.local.storage.conditions import check_read, parse_range, write_condition
from sagemaker_byoc.local.storage.errors import S3Error, precondition_failed
from sagemaker_byoc.local.storage.listing import coding
from sagemaker_byoc.local.storage.multipart import MAX_PARTS, Upload, Uploads, Wanted
from sagemaker_byoc.local.storage.partfiles import Part, PartWriter
from sagemaker_byoc.local.storage.receiving import MAX_PUT, Incoming, receive
from sagemaker_byoc.local.storage.store import ObjectStore
from sagemaker_byoc.local.storage.threads import Threads
from sagemaker_byoc.local.storage.writing import (
    checksum_elements,
    copy_source,
    sent_attributes,
    wanted_algorithm,
)
from sagemaker_byoc.local.storage.xml import Node, document, element, malformed, parse, timestamp
from sagemaker_byoc.local.wire.http import Response

_MAX_XML = 8 << 20
_MOST_LISTED = 1000
_COPY_CHUNK = 1 << 20


class PartRequests:
    def __init__(self, store: ObjectStore, account: Account, threads: Threads) -> None:
        self._store = store
        self._uploads = Uploads(store)
        owner = element("ID", account.id)
        self._owners = [element("Initiator", [owner]), element("Owner", [owner])]
        self._threads = threads

    def routes(self) -> dict[Route, Operation]:
        return {
            ("POST", "object", "uploads"): self.create,
            ("PUT", "object", "uploadId"): self.put,
            ("COPY", "object", "uploadId"): self.copy,
            ("POST", "object", "uploadId"): self.complete,
            ("DELETE", "object", "uploadId"): self.abort,
            ("GET", "object", "uploadId"): self.parts,
            ("GET", "bucket", "uploads"): self.all,
        }

    async def create(self, call: Call) -> Response:
        algorithm = wanted_algorithm(call.headers)
        default = "FULL_OBJECT" if algorithm in {"", "crc64nvme"} else "COMPOSITE"
        kind = call.headers.get("x-amz-checksum-type", default)
        whole = kind == "FULL_OBJECT"
        unfit = algorithm.startswith("sha") if whole else algorithm == "crc64nvme"
        if kind not in {"FULL_OBJECT", "COMPOSITE"} or unfit:
            raise S3Error(
                "InvalidRequest",
                f"The {kind} checksum type cannot be used with the {algorithm} checksum algorithm.",
            )
        attributes = replace(sent_attributes(call.headers), checksum_type=kind)
        upload = await self._threads.run(
            self._uploads.create, call.bucket, call.key, attributes, algorithm
        )
        response = document(
            "InitiateMultipartUploadResult",
            element("Bucket", call.bucket),
            element("Key", call.key),
            element("UploadId", upload.id),
        )
        if algorithm:
            response.headers["x-amz-checksum-algorithm"] = algorithm.upper()
            response.headers["x-amz-checksum-type"] = kind
        return response

    async def put(self, call: Call) -> Response:
        number = _number(call)
        upload = await self._threads.run(self._get, call)
        writers: list[PartWriter] = []

        def open_sink(size: int) -> PartWriter:
            writers.append(self._uploads.open_part(call.bucket, upload, number, size))
            return writers[0]

        also = [upload.algorithm] if upload.algorithm else []
        incoming = Incoming(call.request, open_sink, also)
        rest = await receive(call.request, incoming, self._threads)

        def finish() -> Part:
            try:
                incoming.feed(rest)
                incoming.finish()
                return writers[0].commit(incoming.checksums.get(upload.algorithm, ""))
            finally:
                incoming.abort()

        part = await self._threads.run(finish)
        sums = {checksums.PREFIX + name: value for name, value in incoming.checksums.items()}
        return Response(headers={"ETag": f'"{part.etag}"', **sums})

    async def copy(self, call: Call) -> Response:
        number = _number(call)
        upload = await self._threads.run(self._get, call)
        part = await self._threads.run(self._copy, call, upload, number)
        return document(
            "CopyPartResult",
            element("LastModified", timestamp(part.time)),
            element("ETag", f'"{part.etag}"'),
            *_part_checksum(upload, part),
        )

    async def complete(self, call: Call) -> Response:
        condition = write_condition(call.headers, call.key)
        body = await call.request.body.read(_MAX_XML)
        nodes = parse(body, "CompleteMultipartUpload").all("Part")
        if not 0 < len(nodes) <= MAX_PARTS:
            raise malformed()
        upload = await self._threads.run(self._get, call)
        wanted = [_wanted(node, upload) for node in nodes]
        info = await self._threads.run(
            self._uploads.complete, call.bucket, upload, wanted, condition
        )
        host = call.headers.get("host", "")
        return document(
            "CompleteMultipartUploadResult",
            element("Location", f"http://{host}/{call.bucket}/{call.key}"),
            element("Bucket", call.bucket),
            element("Key", call.key),
            element("ETag", f'"{info.etag}"'),
            *checksum_elements(info.attributes.checksums),
            element("ChecksumType", info.attributes.checksum_type) if upload.algorithm else "",
        )

    async def abort(self, call: Call) -> Response:
        def drop() -> None:
            self._uploads.abort(call.bucket, self._get(call))

        await self._threads.run(drop)
        return Response(status=204)

    async def parts(self, call: Call) -> Response:
        upload = await self._threads.run(self._get, call)
        parts = await self._threads.run(self._uploads.parts, call.bucket, upload)
        after = _count(call, "part-number-marker", 0)
        most = _count(call, "max-parts", _MOST_LISTED)
        listed = [part for part in parts.values() if part.number > after]
        page = listed[:most]
        truncated = len(listed) > most
        return document(
            "ListPartsResult",
            element("Bucket", call.bucket),
            element("Key", call.key),
            element("UploadId", upload.id),
            element("PartNumberMarker", after),
            element("NextPartNumberMarker", page[-1].number if page else 0),
            element("MaxParts", most),
            element("IsTruncated", content=truncated),
            *self._owners,
            element("StorageClass", "STANDARD"),
            element("ChecksumAlgorithm", upload.algorithm.upper() or None),
            element("ChecksumType", upload.attributes.checksum_type if upload.algorithm else None),
            *(element("Part", _part(upload, part)) for part in page),
        )

    async def all(self, call: Call) -> Response:
        uploads = await self._threads.run(self._uploads.all, call.bucket)
        prefix, marker = call.query.get("prefix", ""), call.query.get("key-marker", "")
        last_id = call.query.get("upload-id-marker", "")
        most = _count(call, "max-uploads", _MOST_LISTED)
        coded = coding(call)
        listed = [upload for upload in uploads if upload.key.startswith(prefix)]
        if marker:
            listed = _behind(listed, marker, last_id)
        page = listed[:most]
        truncated = len(listed) > most
        return document(
            "ListMultipartUploadsResult",
            element("Bucket", call.bucket),
            element("KeyMarker", coded(marker)),
            element("UploadIdMarker", last_id),
            element("NextKeyMarker", coded(page[-1].key) if truncated and page else None),
            element("NextUploadIdMarker", page[-1].id if truncated and page else None),
            element("Prefix", coded(prefix)),
            element("EncodingType", call.query.get("encoding-type")),
            element("MaxUploads", most),
            element("IsTruncated", content=truncated),
            *(element("Upload", self._upload(upload, coded(upload.key))) for upload in page),
        )

    def _get(self, call: Call) -> Upload:
        return self._uploads.get(call.bucket, call.key, call.query["uploadId"])

    def _upload(self, upload: Upload, key: str) -> list[str]:
        return [
            element("Key", key),
            element("UploadId", upload.id),
            *self._owners,
            element("StorageClass", "STANDARD"),
            element("Initiated", timestamp(upload.begun)),
            element("ChecksumAlgorithm", upload.algorithm.upper() or None),
        ]

    def _copy(self, call: Call, upload: Upload, number: int) -> Part:
        bucket, key = copy_source(call.headers)
        file, source = self._store.open(bucket, key)
        with open(file, "rb", buffering=0) as data:
            if not check_read(call.headers, source.info, "x-amz-copy-source-"):
                raise precondition_failed("x-amz-copy-source-If-None-Match")
            whole = (0, source.info.size)
            asked = call.headers.get("x-amz-copy-source-range")
            start, length = parse_range(asked, source.info.size) or whole
            if length > MAX_PUT:
                raise S3Error("InvalidRequest", f"A part's source is at most {MAX_PUT} bytes")
            running = checksums.start(upload.algorithm) if upload.algorithm else None
            writer = self._uploads.open_part(call.bucket, upload, number, length)
            try:
                data.seek(start)
                while piece := data.read(min(_COPY_CHUNK, length - writer.size)):
                    writer.write(piece)
                    if running is not None:
                        running.update(piece)
                return writer.commit(checksums.encode(running.digest()) if running else "")
            finally:
                writer.abort()


def _behind(uploads: list[Upload], key: str, upload_id: str) -> list[Upload]:
    """What comes after that key, or after that upload of it."""
    for index, upload in enumerate(uploads):
        if upload.key == key and upload.id == upload_id:
            return uploads[index + 1 :]
    return [upload for upload in uploads if upload.key.encode() > key.encode()]


def _number(call: Call) -> int:
    text = call.query.get("partNumber", "")
    number = int(text) if text.isdecimal() and len(text) < 7 else 0
    if not 1 <= number <= MAX_PARTS:
        raise S3Error(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=text,
        )
    return number


def _count(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal() or len(text) > 10:
        raise S3Error("InvalidArgument", f"Provided {name} not an integer", ArgumentName=name)
    return int(text) if default == 0 else min(int(text), default)


def _wanted(node: Node, upload: Upload) -> Wanted:
    values = node.items()
    try:
        number, etag = int(values["PartNumber"]), values["ETag"]
    except (KeyError, ValueError):
        raise malformed() from None
    return Wanted(number, etag.strip(), values.get(f"Checksum{upload.algorithm.upper()}"))


def _part(upload: Upload, part: Part) -> list[str]:
    return [
        element("PartNumber", part.number),
        element("LastModified", timestamp(part.time)),
        element("ETag", f'"{part.etag}"'),
        element("Size", part.size),
        *_part_checksum(upload, part),
    ]


def _part_checksum(upload: Upload, part: Part) -> list[str]:
    return checksum_elements({upload.algorithm: part.checksum}) if upload.algorithm else []
