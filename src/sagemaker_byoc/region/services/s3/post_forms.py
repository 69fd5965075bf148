"""POST of a bucket: an object that a browser's form uploads, as boto3's generate_presigned_post."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.threads import Threads
from sagemaker_byoc.region.services.s3 import object_properties, post_policy, tagging
from sagemaker_byoc.region.services.s3.bodies import MAX_PUT, Incoming, receive
from sagemaker_byoc.region.services.s3.call import Call, Operation, Route
from sagemaker_byoc.region.services.s3.formdata import Form
from sagemaker_byoc.region.services.s3.post_policy import Policy, SecretOf
from sagemaker_byoc.region.services.s3.refusals import check_headers
from sagemaker_byoc.region.services.s3.store import checksums
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import Attributes, ObjectInfo
from sagemaker_byoc.region.services.s3.store.s3_errors import S3Error, check_key
from sagemaker_byoc.region.services.s3.store.writer import Writer
from sagemaker_byoc.region.services.s3.xml import document, element
from sagemaker_byoc.region.wire.http import Response

__all__ = ["FormRequests", "SecretOf"]

_HEADERS = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-md5",
        "content-type",
        "expires",
    }
)
"""Fields that stand for a header of PutObject, beside all that start with x-amz-."""
_FILENAME = "${filename}"


class FormRequests:
    def __init__(
        self, store: ObjectStore, account: Account, threads: Threads, secret_of: SecretOf | None
    ) -> None:
        self._store = store
        self._account = account
        self._threads = threads
        self._secret_of = secret_of

    def routes(self) -> dict[Route, Operation]:
        return {("POST", "bucket", ""): self.post}

    async def post(self, call: Call) -> Response:
        self._store.files(call.bucket)
        form = Form(call.request)
        fields = await form.fields()
        if "key" not in fields:
            raise post_policy.missing_field("key")
        fields["key"] = fields["key"].replace(_FILENAME, form.filename)
        check_key(fields["key"])
        policy = self._permit({**fields, "bucket": call.bucket})
        headers = _headers(fields)
        check_headers(headers)
        attributes = object_properties.sent_attributes(headers, self._account)
        if "tagging" in fields:
            tags = tagging.of_document(fields["tagging"].encode(), tagging.OBJECT_MOST)
            attributes = replace(attributes, tags=tags)
        sizes = policy.sizes if policy and policy.sizes else (0, MAX_PUT)
        request = replace(call.request, headers=headers, body=form)
        info = await self._store_file(replace(call, request=request), fields, attributes, sizes)
        return _answer(call, fields, info)

    def _permit(self, fields: Mapping[str, str]) -> Policy | None:
        """Raises S3Error unless the form was signed, and keeps to what was signed."""
        if "policy" not in fields:
            if self._secret_of is not None:
                raise S3Error("AccessDenied", "Access Denied", status=403)
            return None
        post_policy.check_fields(fields)
        if self._secret_of is not None:
            post_policy.check_signature(fields, self._secret_of)
        policy = post_policy.parse(fields["policy"])
        policy.check(fields, datetime.now(UTC))
        return policy

    async def _store_file(
        self,
        call: Call,
        fields: Mapping[str, str],
        attributes: Attributes,
        sizes: tuple[int, int],
    ) -> ObjectInfo:
        sinks: list[_Bounded] = []

        def open_sink(_: int) -> _Bounded:
            writer = self._store.open_writer(call.bucket, fields["key"])
            sinks.append(_Bounded(writer, sizes[1]))
            return sinks[0]

        incoming = Incoming(call.request, open_sink, sized=False)
        rest = await receive(call.request, incoming, self._threads)

        def finish() -> ObjectInfo:
            try:
                incoming.feed(rest)
                incoming.finish()
                writer = sinks[0].writer
                if writer.size < sizes[0]:
                    raise S3Error(
                        "EntityTooSmall",
                        "Your proposed upload is smaller than the minimum allowed size",
                        ProposedSize=str(writer.size),
                        MinSizeAllowed=str(sizes[0]),
                    )
                writer.attributes = replace(attributes, checksums=incoming.checksums)
                return writer.commit()
            finally:
                incoming.abort()

        return await self._threads.run(finish)


class _Bounded:
    """A Sink that refuses what is larger than the policy allows, as soon as it is."""

    def __init__(self, writer: Writer, most: int) -> None:
        self.writer = writer
        self._most = most

    @property
    def md5(self) -> bytes:
        return self.writer.md5

    @property
    def size(self) -> int:
        return self.writer.size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.size + len(data) > self._most:
            raise S3Error(
                "EntityTooLarge",
                "Your proposed upload exceeds the maximum allowed size",
                ProposedSize=str(self.size + len(data)),
                MaxSizeAllowed=str(self._most),
            )
        self.writer.write(data)

    def abort(self) -> None:
        self.writer.abort()


def _headers(fields: Mapping[str, str]) -> dict[str, str]:
    """The same request, as PutObject would have it."""
    headers = {
        name: value for name, value in fields.items() if name in _HEADERS or name[:6] == "x-amz-"
    }
    if "acl" in fields:
        headers["x-amz-acl"] = fields["acl"]
    return headers


def _answer(call: Call, fields: Mapping[str, str], info: ObjectInfo) -> Response:
    etag = f'"{info.etag}"'
    location = f"http://{call.headers.get('host', '')}/{call.bucket}/{quote(info.key)}"
    headers = {
        "ETag": etag,
        "Location": location,
        **{checksums.PREFIX + name: value for name, value in info.attributes.checksums.items()},
        **object_properties.encryption_headers(info.attributes),
    }
    redirect = urlsplit(fields.get("success_action_redirect", fields.get("redirect", "")))
    if redirect.scheme in {"http", "https"} and redirect.netloc:
        about = urlencode({"bucket": call.bucket, "key": info.key, "etag": etag})
        query = f"{redirect.query}&{about}" if redirect.query else about
        headers["Location"] = urlunsplit(redirect._replace(query=query))
        return Response(status=303, headers=headers)
    status = fields.get("success_action_status")
    if status == "201":
        response = document(
            "PostResponse",
            element("Location", location),
            element("Bucket", call.bucket),
            element("Key", info.key),
            element("ETag", etag),
            status=201,
        )
        response.headers |= headers
        return response
    return Response(status=200 if status == "200" else 204, headers=headers)
