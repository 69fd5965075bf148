"""PutObject, CopyObject, DeleteObject and DeleteObjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, unquote

from sagemaker_byoc.local.storage import checksums
from sagemaker_byoc.local.storage.call import Call, Operation, Route
from sagemaker_byoc.local.storage.conditions import check_read, write_condition
from sagemaker_byoc.local.storage.errors import S3Error, check_key, precondition_failed
from sagemaker_byoc.local.storage.objects import BINARY, Attributes, Condition, ObjectInfo
from sagemaker_byoc.local.storage.reading import checksum_headers
from sagemaker_byoc.local.storage.receiving import MAX_PUT, Incoming, receive
from sagemaker_byoc.local.storage.store import ObjectStore
from sagemaker_byoc.local.storage.threads import Threads
from sagemaker_byoc.local.storage.writer import Writer
from sagemaker_byoc.local.storage.xml import document, element, malformed, parse, timestamp
from sagemaker_byoc.local.wire.http import Response

_KEPT_HEADERS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-amz-website-redirect-location",
)
_META = "x-amz-meta-"
_LOST = ("x-amz-object-lock-", "x-amz-server-side-encryption-customer-")
_MAX_METADATA = 2048
_MAX_DELETES = 1000
_MAX_DELETE_BODY = 8 << 20
_COPY_CHUNK = 1 << 20


class WriteRequests:
    def __init__(self, store: ObjectStore, threads: Threads) -> None:
        self._store = store
        self._threads = threads

    def routes(self) -> dict[Route, Operation]:
        return {
            ("PUT", "object", ""): self.put,
            ("COPY", "object", ""): self.copy,
            ("DELETE", "object", ""): self.delete,
            ("POST", "bucket", "delete"): self.delete_many,
        }

    async def put(self, call: Call) -> Response:
        condition = write_condition(call.headers, call.key)
        attributes = sent_attributes(call.headers)
        self._store.files(call.bucket)
        writers: list[Writer] = []

        def open_sink(_: int) -> Writer:
            writers.append(self._store.open_writer(call.bucket, call.key))
            return writers[0]

        incoming = Incoming(call.request, open_sink)
        rest = await receive(call.request, incoming, self._threads)

        def finish() -> ObjectInfo:
            try:
                incoming.feed(rest)
                incoming.finish()
                writers[0].attributes = replace(attributes, checksums=incoming.checksums)
                return writers[0].commit(condition)
            finally:
                incoming.abort()

        info = await self._threads.run(finish)
        return Response(
            headers={
                "ETag": f'"{info.etag}"',
                **checksum_headers(incoming.checksums, "FULL_OBJECT"),
            }
        )

    async def copy(self, call: Call) -> Response:
        bucket, key = copy_source(call.headers)
        condition = write_condition(call.headers, call.key)
        info = await self._threads.run(self._copy, call, bucket, key, condition)
        return document(
            "CopyObjectResult",
            element("LastModified", timestamp(info.modified)),
            element("ETag", f'"{info.etag}"'),
            *checksum_elements(info.attributes.checksums),
        )

    async def delete(self, call: Call) -> Response:
        match = call.headers.get("if-match")
        condition = write_condition({"if-match": match}, call.key) if match else None
        await self._threads.run(self._store.delete, call.bucket, call.key, condition)
        return Response(status=204)

    async def delete_many(self, call: Call) -> Response:
        self._store.files(call.bucket)
        if not any(
            name == "content-md5" or name.startswith(checksums.PREFIX) for name in call.headers
        ):
            raise S3Error(
                "InvalidRequest",
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*",
            )
        body = await call.request.body.read(_MAX_DELETE_BODY)
        verify(call, body)
        root = parse(body, "Delete")
        keys = [entry.get("Key") for entry in root.all("Object")]
        if not 0 < len(keys) <= _MAX_DELETES or not all(keys):
            raise malformed()
        quiet = root.get("Quiet") == "true"
        results = await self._threads.run(
            lambda: [self._delete(call.bucket, key, quiet=quiet) for key in keys if key]
        )
        return document("DeleteResult", *results)

    def _delete(self, bucket: str, key: str, *, quiet: bool) -> str:
        try:
            check_key(key)
            self._store.delete(bucket, key)
        except S3Error as error:
            details = [element("Key", key), element("Code", error.code)]
            return element("Error", [*details, element("Message", error.message)])
        return "" if quiet else element("Deleted", [element("Key", key)])

    def _copy(self, call: Call, bucket: str, key: str, condition: Condition | None) -> ObjectInfo:
        replaced = directive(call.headers) == "REPLACE"
        if (bucket, key) == (call.bucket, call.key) and not replaced:
            raise S3Error(
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object to itself"
                " without changing the object's metadata, storage class, website redirect location"
                " or encryption attributes.",
            )
        file, source = self._store.open(bucket, key)
        with open(file, "rb", buffering=0) as data:
            if not check_read(call.headers, source.info, "x-amz-copy-source-"):
                raise precondition_failed("x-amz-copy-source-If-None-Match")
            if source.info.size > MAX_PUT:
                raise S3Error(
                    "InvalidRequest",
                    "The specified copy source is larger than the maximum allowable size for a copy"
                    f" source: {MAX_PUT}",
                )
            before = source.info.attributes
            attributes = sent_attributes(call.headers) if replaced else before
            algorithm = wanted_algorithm(call.headers) or next(iter(before.checksums), "")
            running = checksums.start(algorithm) if algorithm else None
            with self._store.open_writer(call.bucket, call.key) as writer:
                while piece := data.read(_COPY_CHUNK):
                    writer.write(piece)
                    if running is not None:
                        running.update(piece)
                sums = {algorithm: checksums.encode(running.digest())} if running else {}
                writer.attributes = replace(
                    attributes, etag="", checksums=sums, checksum_type="FULL_OBJECT", parts=()
                )
                return writer.commit(condition)


def sent_attributes(headers: Mapping[str, str]) -> Attributes:
    """Raises S3Error MetadataTooLarge, and NotImplemented for what would be lost in silence."""
    for name in headers:
        if name == "x-amz-tagging" or name.startswith(_LOST):
            raise S3Error(
                "NotImplemented",
                f"This object store keeps nothing of what {name} asks for: leave it out",
                status=501,
                Header=name,
            )
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
    kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
    codings = [word.strip() for word in kept.pop("content-encoding", "").split(",")]
    if coding := ",".join(word for word in codings if word and word != "aws-chunked"):
        kept["content-encoding"] = coding
    content_type = headers.get("content-type") or BINARY
    return Attributes(etag="", content_type=content_type, metadata=metadata, headers=kept)


def directive(headers: Mapping[str, str]) -> str:
    value = headers.get("x-amz-metadata-directive", "COPY")
    if value not in {"COPY", "REPLACE"}:
        raise S3Error("InvalidArgument", f"Unknown metadata directive {value!r}: COPY or REPLACE")
    return value


def copy_source(headers: Mapping[str, str]) -> tuple[str, str]:
    """Bucket and key; raises S3Error InvalidArgument, NoSuchVersion."""
    path, _, query = headers["x-amz-copy-source"].partition("?")
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    if not bucket or not key:
        raise S3Error(
            "InvalidArgument",
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            ArgumentName="x-amz-copy-source",
        )
    check_version(dict(parse_qsl(query)))
    return bucket, key


def check_version(query: Mapping[str, str]) -> None:
    """There is one version of everything, which S3 calls `null`."""
    version = query.get("versionId", "null")
    if version != "null":
        raise S3Error(
            "NoSuchVersion",
            "The specified version does not exist.",
            status=404,
            VersionId=version,
        )


def wanted_algorithm(headers: Mapping[str, str]) -> str:
    """In lower case, or nothing; raises S3Error InvalidRequest."""
    name = headers.get("x-amz-checksum-algorithm", "").lower()
    if name and name not in checksums.ALGORITHMS:
        raise S3Error(
            "InvalidRequest",
            "Checksum algorithm provided is unsupported. Please try again with any of the valid"
            f" types: [{', '.join(word.upper() for word in checksums.ALGORITHMS)}]",
        )
    return name


def checksum_elements(sums: Mapping[str, str]) -> list[str]:
    return [element(f"Checksum{name.upper()}", value) for name, value in sums.items()]


class _Nowhere:
    """A Sink for bodies that are in memory already."""

    def __init__(self) -> None:
        self.size = 0
        self._md5 = checksums.start("md5")

    @property
    def md5(self) -> bytes:
        return self._md5.digest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.size += len(data)
        self._md5.update(data)

    def abort(self) -> None:
        """Nothing to give up."""


def verify(call: Call, body: bytes) -> None:
    """Raises S3Error BadDigest."""
    incoming = Incoming(call.request, lambda _: _Nowhere())
    incoming.feed([body])
    incoming.finish()
