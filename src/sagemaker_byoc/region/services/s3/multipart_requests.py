"""Requests of multipart uploads."""

from __future__ import annotations

from dataclasses import replace

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.threads import Threads
from sagemaker_byoc.region.services.s3 import object_properties
from sagemaker_byoc.region.services.s3.bodies import MAX_PUT, Incoming
from sagemaker_byoc.region.services.s3.call import Call, Operation, Requests, Route
from sagemaker_byoc.region.services.s3.conditions import (
    check_copy_source,
    check_initiated,
    parse_copy_range,
    write_condition,
)
from sagemaker_byoc.region.services.s3.listing import coding
from sagemaker_byoc.region.services.s3.object_properties import owner_element
from sagemaker_byoc.region.services.s3.object_writes import (
    check_source_owner,
    copy_source,
    wanted_algorithm,
)
from sagemaker_byoc.region.services.s3.store import checksums
from sagemaker_byoc.region.services.s3.store.multipart import (
    MAX_PARTS,
    Promised,
    Upload,
    Uploads,
    Wanted,
    check_algorithms,
)
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import (
    Attributes,
    Condition,
    S3Error,
    invalid_argument,
    unsupported,
)
from sagemaker_byoc.region.services.s3.store.part_files import Part, PartWriter
from sagemaker_byoc.region.wire.http import Response
from sagemaker_byoc.region.wire.xml import (
    Node,
    checksum_elements,
    document,
    element,
    malformed,
    parse,
    timestamp,
)

_MAX_XML = 8 << 20
_MOST_LISTED = 1000


class PartRequests(Requests):
    def __init__(self, store: ObjectStore, account: Account, threads: Threads) -> None:
        super().__init__(store, account, threads)
        self._uploads = Uploads(store)
        self._owners = [element("Initiator", [element("ID", account.id)]), owner_element(account)]

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
        object_properties.check_checksum_type(algorithm, kind)
        sent = object_properties.sent_attributes(call.headers, self._account)
        attributes = replace(sent, checksum_type=kind)
        upload = await self._threads.run(
            self._uploads.create, call.bucket, call.key, attributes, algorithm
        )
        response = document(
            "InitiateMultipartUploadResult",
            element("Bucket", call.bucket),
            element("Key", call.key),
            element("UploadId", upload.id),
        )
        response.headers |= object_properties.encryption_headers(attributes)
        if algorithm:
            response.headers["x-amz-checksum-algorithm"] = algorithm.upper()
            response.headers["x-amz-checksum-type"] = kind
        return response

    async def put(self, call: Call) -> Response:
        number = _number(call)
        upload = await self._threads.run(self._get, call)
        _check_part_algorithm(call, upload)
        incoming = Incoming(
            call.request,
            lambda size: self._uploads.open_part(call.bucket, upload, number, size),
            [upload.algorithm] if upload.algorithm else [],
        )

        def commit(writer: PartWriter) -> Part:
            return writer.commit(incoming.checksums.get(upload.algorithm, ""))

        part = await incoming.store(self._threads, commit)
        sums = checksums.as_headers(incoming.checksums)
        encryption = object_properties.encryption_headers(upload.attributes)
        return Response(headers={"ETag": f'"{part.etag}"', **sums, **encryption})

    async def copy(self, call: Call) -> Response:
        number = _number(call)
        upload = await self._threads.run(self._get, call)
        part = await self._threads.run(self._copy, call, upload, number)
        response = document(
            "CopyPartResult",
            element("LastModified", timestamp(part.time)),
            element("ETag", f'"{part.etag}"'),
            *_part_checksum(upload, part),
        )
        response.headers |= object_properties.encryption_headers(upload.attributes)
        return response

    async def complete(self, call: Call) -> Response:
        condition = write_condition(call.headers, call.key)
        body = await call.request.body.read(_MAX_XML)
        nodes = parse(body, "CompleteMultipartUpload").only("Part").all("Part")
        if not 0 < len(nodes) <= MAX_PARTS:
            raise malformed()
        wanted = [_wanted(node) for node in nodes]
        attributes = await self._threads.run(self._complete, call, wanted, condition)
        host = call.headers.get("host", "")
        response = document(
            "CompleteMultipartUploadResult",
            element("Location", f"http://{host}/{call.bucket}/{call.key}"),
            element("Bucket", call.bucket),
            element("Key", call.key),
            element("ETag", f'"{attributes.etag}"'),
            *checksum_elements(attributes.checksums),
            element("ChecksumType", attributes.checksum_type if attributes.checksums else None),
        )
        response.headers |= object_properties.encryption_headers(attributes)
        return response

    def _complete(
        self, call: Call, wanted: list[Wanted], condition: Condition | None
    ) -> Attributes:
        upload_id = call.query["uploadId"]
        with self._uploads.turn(upload_id):
            before = self._uploads.completed(call.bucket, call.key, upload_id, wanted)
            return before or self._complete_first(call, wanted, condition)

    def _complete_first(
        self, call: Call, wanted: list[Wanted], condition: Condition | None
    ) -> Attributes:
        upload = self._get(call)
        promised = Promised(
            checksums=checksums.stated(call.headers),
            checksum_type=call.headers.get("x-amz-checksum-type"),
            size=call.headers.get("x-amz-mp-object-size"),
        )
        return self._uploads.complete(call.bucket, upload, wanted, condition, promised).attributes

    async def abort(self, call: Call) -> Response:
        def drop() -> None:
            upload = self._get(call)
            check_initiated(call.headers, upload.begun)
            self._uploads.drop(call.bucket, upload)

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
            element("StorageClass", upload.attributes.storage_class),
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
        delimiter = call.query.get("delimiter", "")
        listed = [upload for upload in uploads if upload.key.startswith(prefix)]
        if marker:
            listed = _behind(listed, marker, last_id)
        page, common, truncated = _page(listed, prefix, delimiter, most)
        return document(
            "ListMultipartUploadsResult",
            element("Bucket", call.bucket),
            element("KeyMarker", coded(marker)),
            element("UploadIdMarker", last_id),
            element("Delimiter", coded(delimiter) if delimiter else None),
            element("NextKeyMarker", coded(page[-1].key) if truncated and page else None),
            element("NextUploadIdMarker", page[-1].id if truncated and page else None),
            element("Prefix", coded(prefix)),
            element("EncodingType", call.query.get("encoding-type")),
            element("MaxUploads", most),
            element("IsTruncated", content=truncated),
            *(
                element("Upload", self._upload(upload, coded(upload.key)))
                for upload in page
                if not _common(upload.key, prefix, delimiter)
            ),
            *(element("CommonPrefixes", [element("Prefix", coded(name))]) for name in common),
        )

    def _get(self, call: Call) -> Upload:
        return self._uploads.get(call.bucket, call.key, call.query["uploadId"])

    def _upload(self, upload: Upload, key: str) -> list[str]:
        return [
            element("Key", key),
            element("UploadId", upload.id),
            *self._owners,
            element("StorageClass", upload.attributes.storage_class),
            element("Initiated", timestamp(upload.begun)),
            element("ChecksumAlgorithm", upload.algorithm.upper() or None),
            element("ChecksumType", upload.attributes.checksum_type if upload.algorithm else None),
        ]

    def _copy(self, call: Call, upload: Upload, number: int) -> Part:
        check_source_owner(call.headers, self._account)
        bucket, key = copy_source(call.headers)
        file, source = self._store.open(bucket, key)
        with open(file, "rb", buffering=0) as data:
            check_copy_source(call.headers, source.info)
            asked = call.headers.get("x-amz-copy-source-range")
            start, length = parse_copy_range(asked, source.info.size)
            if length > MAX_PUT:
                raise S3Error("InvalidRequest", f"A part's source is at most {MAX_PUT} bytes")
            writer = self._uploads.open_part(call.bucket, upload, number, length)
            try:
                data.seek(start)
                return writer.commit(checksums.copy(data, writer.write, length, upload.algorithm))
            finally:
                writer.abort()


def _common(key: str, prefix: str, delimiter: str) -> str:
    end = key.find(delimiter, len(prefix)) if delimiter else -1
    return key[: end + len(delimiter)] if end >= 0 else ""


def _page(
    uploads: list[Upload], prefix: str, delimiter: str, most: int
) -> tuple[list[Upload], list[str], bool]:
    """Return the uploads of one answer, their common prefixes, and whether there are more."""
    page: list[Upload] = []
    common: list[str] = []
    count = 0
    for upload in uploads:
        name = _common(upload.key, prefix, delimiter)
        if not name or name not in common:
            if count == most:
                return page, common, True
            count += 1
            common += [name] if name else []
        page.append(upload)
    return page, common, False


def _behind(uploads: list[Upload], key: str, upload_id: str) -> list[Upload]:
    """Return the uploads after that key, or after that upload of it."""
    for index, upload in enumerate(uploads):
        if upload.key == key and upload.id == upload_id:
            return uploads[index + 1 :]
    return [upload for upload in uploads if upload.key.encode() > key.encode()]


def _number(call: Call) -> int:
    text = call.query.get("partNumber", "")
    number = int(text) if text.isdecimal() and len(text) < 7 else 0
    if not 1 <= number <= MAX_PARTS:
        raise invalid_argument(
            f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive",
            "partNumber",
            text,
        )
    return number


def _count(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal() or len(text) > 10:
        raise S3Error("InvalidArgument", f"Provided {name} not an integer", ArgumentName=name)
    return int(text) if default == 0 else min(int(text), default)


def _check_part_algorithm(call: Call, upload: Upload) -> None:
    """Raise S3Error InvalidRequest if the part has another checksum than the upload."""
    stated = set(checksums.stated(call.headers))
    trailer = call.headers.get("x-amz-trailer", "").lower()
    if trailer.startswith(checksums.PREFIX):
        stated.add(trailer.removeprefix(checksums.PREFIX))
    check_algorithms(upload, stated)


def _wanted(node: Node) -> Wanted:
    names = {f"Checksum{name.upper()}": name for name in checksums.ALGORITHMS}
    unknown = {f"Checksum{name.upper()}" for name in checksums.UNKNOWN}
    values = node.only("PartNumber", "ETag", *names, *unknown).items()
    for name in unknown & values.keys():
        raise unsupported(name)
    try:
        number, etag = int(values["PartNumber"]), values["ETag"]
    except (KeyError, ValueError):
        raise malformed() from None
    sums = {names[name]: value for name, value in values.items() if name in names}
    return Wanted(number, etag.strip(), sums)


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
