"""PutObject, CopyObject, DeleteObject and DeleteObjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, unquote

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.s3 import object_properties
from sagemaker_byoc.region.services.s3.bodies import MAX_PUT, Incoming
from sagemaker_byoc.region.services.s3.call import Call, Operation, Requests, Route
from sagemaker_byoc.region.services.s3.conditions import (
    check_copy_source,
    delete_condition,
    write_condition,
)
from sagemaker_byoc.region.services.s3.object_reads import checksum_headers
from sagemaker_byoc.region.services.s3.store import checksums
from sagemaker_byoc.region.services.s3.store.changes import Put
from sagemaker_byoc.region.services.s3.store.objects import (
    Condition,
    ObjectInfo,
    S3Error,
    check_key,
)
from sagemaker_byoc.region.services.s3.store.writers import SMALL, Writer
from sagemaker_byoc.region.wire.http import Response
from sagemaker_byoc.region.wire.xml import (
    checksum_elements,
    document,
    element,
    malformed,
    parse,
    timestamp,
)

_DELETED = ("Key", "VersionId", "ETag", "LastModifiedTime", "Size")
_MAX_XML = 1 << 20
_MAX_DELETES = 1000
_MAX_DELETE_BODY = 8 << 20


class WriteRequests(Requests):
    def routes(self) -> dict[Route, Operation]:
        return {
            ("PUT", "object", ""): self.put,
            ("COPY", "object", ""): self.copy,
            ("DELETE", "object", ""): self.delete,
            ("POST", "bucket", "delete"): self.delete_many,
            ("PUT", "object", "tagging"): self.tag,
            ("DELETE", "object", "tagging"): self.untag,
            ("PUT", "object", "acl"): self.put_acl,
        }

    async def put(self, call: Call) -> Response:
        condition = write_condition(call.headers, call.key)
        attributes = object_properties.sent_attributes(call.headers, self._account)
        writer = self._store.make_writer(call.bucket, call.key)
        incoming = Incoming(call.request, lambda _: writer)

        def change(_: Writer) -> Put:
            writer.attributes = replace(attributes, checksums=incoming.checksums)
            return writer.change(condition)

        commits = self._store.commits
        if incoming.length is not None and incoming.length <= SMALL:
            info = await incoming.submit(self._threads, commits, change)
        else:
            self._store.files(call.bucket)  # before gigabytes arrive
            info = await incoming.store(self._threads, lambda _: commits.run(change(writer)))
        return Response(
            headers={
                "ETag": f'"{info.etag}"',
                **checksum_headers(incoming.checksums, "FULL_OBJECT"),
                **object_properties.encryption_headers(info.attributes),
            }
        )

    async def copy(self, call: Call) -> Response:
        bucket, key = copy_source(call.headers)
        condition = write_condition(call.headers, call.key)
        info = await self._threads.run(self._copy, call, bucket, key, condition)
        sums = info.attributes.checksums
        response = document(
            "CopyObjectResult",
            element("LastModified", timestamp(info.modified)),
            element("ETag", f'"{info.etag}"'),
            element("ChecksumType", info.attributes.checksum_type if sums else None),
            *checksum_elements(sums),
        )
        response.headers |= object_properties.encryption_headers(info.attributes)
        return response

    async def delete(self, call: Call) -> Response:
        condition = delete_condition(
            call.key,
            match=call.headers.get("if-match"),
            modified=call.headers.get("x-amz-if-match-last-modified-time"),
            size=call.headers.get("x-amz-if-match-size"),
        )
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
        root = parse(body, "Delete").only("Object", "Quiet")
        entries = [entry.only(*_DELETED).items() for entry in root.all("Object")]
        if not 0 < len(entries) <= _MAX_DELETES or not all(entry.get("Key") for entry in entries):
            raise malformed()
        quiet = root.get("Quiet") == "true"
        results = await self._threads.run(
            lambda: [self._delete(call.bucket, entry, quiet=quiet) for entry in entries]
        )
        return document("DeleteResult", *results)

    def _delete(self, bucket: str, entry: Mapping[str, str], *, quiet: bool) -> str:
        key, version = entry["Key"], entry.get("VersionId")
        named = [element("Key", key), element("VersionId", version)]
        try:
            check_key(key)
            check_version({"versionId": version or "null"})
            condition = delete_condition(
                key,
                match=entry.get("ETag"),
                modified=entry.get("LastModifiedTime"),
                size=entry.get("Size"),
            )
            self._store.delete(bucket, key, condition)
        except S3Error as error:
            said = [element("Code", error.code), element("Message", error.message)]
            return element("Error", [*named, *said])
        return "" if quiet else element("Deleted", named)

    async def tag(self, call: Call) -> Response:
        body = await call.request.body.read(_MAX_XML)
        verify(call, body)
        tags = object_properties.document_tags(body, object_properties.MOST_OBJECT_TAGS)
        await self._threads.run(self._store.tag, call.bucket, call.key, tags)
        return Response()

    async def untag(self, call: Call) -> Response:
        await self._threads.run(self._store.tag, call.bucket, call.key, {})
        return Response(status=204)

    async def put_acl(self, call: Call) -> Response:
        await self._threads.run(self._store.get, call.bucket, call.key)
        await check_acl(call, self._account)
        return Response()

    def _copy(self, call: Call, bucket: str, key: str, condition: Condition | None) -> ObjectInfo:
        check_source_owner(call.headers, self._account)
        changed = object_properties.changes_itself(call.headers)
        if (bucket, key) == (call.bucket, call.key) and not changed:
            raise S3Error(
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object to itself"
                " without changing the object's metadata, storage class, website redirect location"
                " or encryption attributes.",
            )
        file, source = self._store.open(bucket, key)
        with open(file, "rb", buffering=0) as data:
            check_copy_source(call.headers, source.info)
            if source.info.size > MAX_PUT:
                raise S3Error(
                    "InvalidRequest",
                    "The specified copy source is larger than the maximum allowable size for a copy"
                    f" source: {MAX_PUT}",
                )
            before = source.info.attributes
            attributes = object_properties.copied(before, call.headers, self._account)
            algorithm = wanted_algorithm(call.headers) or next(iter(before.checksums), "")
            with self._store.open_writer(call.bucket, call.key) as writer:
                value = checksums.copy(data, writer.write, source.info.size, algorithm)
                sums = {algorithm: value} if algorithm else {}
                writer.attributes = replace(attributes, checksums=sums)
                return writer.commit(condition)


def copy_source(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return bucket and key; raise S3Error InvalidArgument, NoSuchVersion."""
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


def check_source_owner(headers: Mapping[str, str], account: Account) -> None:
    """Raise S3Error AccessDenied if the bucket has another owner."""
    if headers.get("x-amz-source-expected-bucket-owner", account.id) != account.id:
        raise S3Error("AccessDenied", "Access Denied", status=403)


async def check_acl(call: Call, account: Account) -> None:
    """Raise S3Error unless the ACL grants everything to the owner and nothing to others."""
    body = await call.request.body.read(_MAX_XML)
    verify(call, body)
    if not object_properties.takes_acl(call.headers, account) or not _is_owners(body, account):
        raise object_properties.acls_disabled()


def _is_owners(body: bytes, account: Account) -> bool:
    if not body.strip():
        return True
    root = parse(body, "AccessControlPolicy").only("Owner", "AccessControlList")
    lists = [entry.only("Grant") for entry in root.all("AccessControlList")]
    grants = [grant.only("Grantee", "Permission") for one in lists for grant in one.all("Grant")]
    return all(
        grant.get("Permission") == "FULL_CONTROL"
        and [grantee.get("ID") for grantee in grant.all("Grantee")] == [account.id]
        for grant in grants
    )


def check_version(query: Mapping[str, str]) -> None:
    """Raise S3Error unless the version is `null`, the only one of an object here."""
    version = query.get("versionId", "null")
    if version != "null":
        raise S3Error(
            "NoSuchVersion", "The specified version does not exist.", status=404, VersionId=version
        )


def wanted_algorithm(headers: Mapping[str, str]) -> str:
    """Return the algorithm in lower case, or ""; raise S3Error InvalidRequest."""
    name = headers.get("x-amz-checksum-algorithm", "").lower()
    if name and name not in checksums.ALGORITHMS:
        raise S3Error(
            "InvalidRequest",
            "Checksum algorithm provided is unsupported. Please try again with any of the valid"
            f" types: [{', '.join(word.upper() for word in checksums.ALGORITHMS)}]",
        )
    return name


class _Nowhere:
    """A Sink for bodies in memory."""

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
        """There is nothing to remove."""


def verify(call: Call, body: bytes) -> None:
    """Verify a body in memory; raise S3Error BadDigest."""
    incoming = Incoming(call.request, lambda _: _Nowhere(), sized=False)
    incoming.feed([body])
    incoming.finish()
