"""POST of a bucket: upload forms of browsers, as boto3 presigns them, and their policies."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.threads import Threads
from sagemaker_byoc.region.services.s3 import object_properties
from sagemaker_byoc.region.services.s3.bodies import MAX_PUT, Incoming
from sagemaker_byoc.region.services.s3.call import Call, Operation, Requests, Route
from sagemaker_byoc.region.services.s3.object_properties import check_headers
from sagemaker_byoc.region.services.s3.store import checksums
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import ObjectInfo, S3Error, check_key
from sagemaker_byoc.region.services.s3.store.writers import Writer
from sagemaker_byoc.region.wire.http import Request, Response
from sagemaker_byoc.region.wire.signatures import signing_key
from sagemaker_byoc.region.wire.xml import document, element

_BOUNDARY = re.compile(
    r'multipart/form-data\s*;.*?boundary=("?)(?P<it>[^";,]{1,70})\1', re.IGNORECASE
)
_PARAMETER = r'\b{name}="((?:[^"\\]|\\.)*)"'
_NAME, _FILENAME = (re.compile(_PARAMETER.format(name=name)) for name in ("name", "filename"))
_MOST_FIELDS = 20 << 10
"""Bytes before the file (S3 user guide, "browser-based uploads using POST")."""
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
"""Fields that stand for headers of PutObject, beside those that start with x-amz-."""
_FILENAME_VARIABLE = "${filename}"

SecretOf: TypeAlias = Callable[[str, str], str | None]
"""A function of access key and session token; it returns the secret key, None if not valid."""

_CREDENTIAL = re.compile(r"(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/s3/aws4_request")
_FREE = frozenset({"policy", "signature", "awsaccesskeyid", "x-amz-signature", "file"})
_FREE_STARTS = ("x-ignore-", "x-amz-checksum-")
"""Prefixes of fields that need no condition."""
_LENGTH = "content-length-range"
_ANY_SIZE = (0, MAX_PUT)


class Form:
    """A form that is read as it arrives: first its `fields`, then, as a Body, its file."""

    def __init__(self, request: Request) -> None:
        """Raise S3Error PreconditionFailed if it is not a form."""
        found = _BOUNDARY.match(request.headers.get("content-type", ""))
        if found is None:
            raise S3Error(
                "PreconditionFailed",
                "At least one of the pre-conditions you specified did not hold",
                status=412,
                Condition="Bucket POST must be of the enclosure-type multipart/form-data",
            )
        self.filename = ""
        self._delimiter = b"\r\n--" + found["it"].encode("latin-1")
        self._chunks = aiter(request.body)
        self._buffer = bytearray(b"\r\n")  # the first delimiter is at the start of the body
        self._left = _MOST_FIELDS

    async def fields(self) -> dict[str, str]:
        """Return the fields before the file, names in lower case; raise S3Error."""
        fields: dict[str, str] = {}
        await self._until(self._delimiter)
        while (await self._until(b"\r\n")).strip() != b"--":
            # A part without headers starts with the empty line itself.
            head = (await self._until(b"\r\n\r\n")).decode("utf-8", "replace")
            name = _NAME.search(head)
            if name is None:
                raise _malformed()
            if name[1].lower() == "file":
                filename = _FILENAME.search(head)
                self.filename = re.split(r"[/\\]", filename[1])[-1] if filename else ""
                return fields
            value = await self._until(self._delimiter)
            fields[name[1].lower()] = value.decode("utf-8", "replace")
        raise S3Error("InvalidArgument", "POST requires exactly one file upload per request.")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (end := self._buffer.find(self._delimiter)) < 0:
            sure = len(self._buffer) - len(self._delimiter)
            if sure > 0:
                yield bytes(self._buffer[:sure])
                del self._buffer[:sure]
            if not await self._fill():
                raise _malformed()
        if end:
            yield bytes(self._buffer[:end])
        async for _ in self._chunks:
            """Drop what comes after the file."""

    async def read(self, limit: int) -> bytes:
        raise NotImplementedError(f"a form's file is streamed, not read ({limit})")

    async def _until(self, mark: bytes) -> bytes:
        """Return what comes before `mark`, and remove both from the buffer."""
        while (end := self._buffer.find(mark)) < 0:
            if len(self._buffer) > self._left:
                raise _too_large()
            if not await self._fill():
                if mark == b"\r\n" and self._buffer.startswith(b"--"):
                    return b"--"  # the last delimiter may end the body
                raise _malformed()
        found = bytes(self._buffer[:end])
        del self._buffer[: end + len(mark)]
        self._left -= end
        if self._left < 0:
            raise _too_large()
        return found

    async def _fill(self) -> bool:
        chunk = await anext(self._chunks, b"")
        self._buffer += chunk
        return bool(chunk)


def _malformed() -> S3Error:
    return S3Error(
        "MalformedPOSTRequest",
        "The body of your POST request is not well-formed multipart/form-data.",
    )


def _too_large() -> S3Error:
    return S3Error(
        "MaxPostPreDataLengthExceededError",
        "Your POST request fields preceding the upload file were too large.",
        MaxPostPreDataLengthBytes=str(_MOST_FIELDS),
    )


class FormRequests(Requests):
    def __init__(
        self, store: ObjectStore, account: Account, threads: Threads, secret_of: SecretOf | None
    ) -> None:
        super().__init__(store, account, threads)
        self._secret_of = secret_of

    def routes(self) -> dict[Route, Operation]:
        return {("POST", "bucket", ""): self.post}

    async def post(self, call: Call) -> Response:
        self._store.files(call.bucket)
        form = Form(call.request)
        fields = await form.fields()
        if "key" not in fields:
            raise _missing_field("key")
        fields["key"] = fields["key"].replace(_FILENAME_VARIABLE, form.filename)
        check_key(fields["key"])
        least, most = self._permit({**fields, "bucket": call.bucket})
        headers = _headers(fields)
        check_headers(headers)
        attributes = object_properties.sent_attributes(headers, self._account)
        if "tagging" in fields:
            tags = object_properties.document_tags(
                fields["tagging"].encode(), object_properties.MOST_OBJECT_TAGS
            )
            attributes = replace(attributes, tags=tags)
        incoming = Incoming(
            replace(call.request, headers=headers, body=form),
            lambda _: self._store.open_writer(call.bucket, fields["key"]),
            sized=False,
            most=most,
        )

        def commit(writer: Writer) -> ObjectInfo:
            if writer.size < least:
                raise S3Error(
                    "EntityTooSmall",
                    "Your proposed upload is smaller than the minimum allowed size",
                    ProposedSize=str(writer.size),
                    MinSizeAllowed=str(least),
                )
            writer.attributes = replace(attributes, checksums=incoming.checksums)
            return writer.commit()

        info = await incoming.store(self._threads, commit)
        return _answer(call, fields, info)

    def _permit(self, fields: Mapping[str, str]) -> tuple[int, int]:
        """Return the sizes that the file may have.

        Raise S3Error unless the form was signed and satisfies its policy.
        """
        if "policy" not in fields:
            if self._secret_of is not None:
                raise S3Error("AccessDenied", "Access Denied", status=403)
            return _ANY_SIZE
        _check_fields(fields)
        if self._secret_of is not None:
            _check_signature(fields, self._secret_of)
        policy = parse_policy(fields["policy"])
        policy.check(fields, datetime.now(UTC))
        return policy.sizes


def _headers(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that PutObject would have, in UTF-8; raise S3Error."""
    headers = {
        name: value.encode().decode("latin-1")
        for name, value in fields.items()
        if name in _HEADERS or name[:6] == "x-amz-"
    }
    if "acl" in fields:
        headers["x-amz-acl"] = fields["acl"]
    for name, value in headers.items():
        object_properties.check_sendable(name, value)
    return headers


def _answer(call: Call, fields: Mapping[str, str], info: ObjectInfo) -> Response:
    etag = f'"{info.etag}"'
    location = f"http://{call.headers.get('host', '')}/{call.bucket}/{quote(info.key)}"
    headers = {
        "ETag": etag,
        "Location": location,
        **checksums.as_headers(info.attributes.checksums),
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


@dataclass(frozen=True, slots=True)
class Policy:
    expires: datetime
    conditions: tuple[tuple[str, str, str], ...]
    """Operator, field and value, the first two in lower case."""
    sizes: tuple[int, int]
    """The smallest and the largest file."""

    def check(self, fields: Mapping[str, str], now: datetime) -> None:
        """Raise S3Error AccessDenied if the fields do not satisfy the policy."""
        if self.expires < now:
            raise _denied("Policy expired.")
        for operator, name, value in self.conditions:
            given = fields.get(name, "")
            met = given == value if operator == "eq" else given.startswith(value)
            if not met or (name not in fields and value):
                raise _denied(f'Policy Condition failed: ["{operator}", "${name}", "{value}"]')
        covered = {name for _, name, _ in self.conditions} | _FREE
        extra = [
            name for name in fields if name not in covered and not name.startswith(_FREE_STARTS)
        ]
        if extra:
            raise _denied(f"Extra input fields: {', '.join(extra)}")


def parse_policy(text: str) -> Policy:
    """Return the policy; raise S3Error InvalidPolicyDocument."""
    try:
        found = json.loads(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise _invalid_policy("Invalid JSON.") from None
    if not isinstance(found, dict):
        raise _invalid_policy("Invalid JSON.")
    for name in ("expiration", "conditions"):
        if name not in found:
            raise _invalid_policy(f"Policy missing {name}.")
    entries = found["conditions"]
    if not isinstance(entries, list):
        raise _invalid_policy("Invalid 'conditions' value: it must be a list.")
    sizes = [_sizes(entry) for entry in entries if _is_length(entry)]
    return Policy(
        expires=_time(found["expiration"]),
        conditions=tuple(_condition(entry) for entry in entries if not _is_length(entry)),
        sizes=sizes[-1] if sizes else _ANY_SIZE,
    )


def _check_signature(fields: Mapping[str, str], secret_of: SecretOf) -> None:
    """Raise S3Error unless the policy was signed with a valid key, by version 4 or 2."""
    policy = fields["policy"].encode()
    if "x-amz-signature" in fields:
        found = _CREDENTIAL.fullmatch(fields.get("x-amz-credential", ""))
        if found is None:
            raise _missing_field("X-Amz-Credential")
        secret = _secret(found["key"], fields, secret_of)
        key = signing_key(secret, found["date"], found["region"], "s3")
        expected = hmac.digest(key, policy, hashlib.sha256).hex()
        given = fields["x-amz-signature"]
    else:
        key = _secret(fields.get("awsaccesskeyid", ""), fields, secret_of).encode()
        expected = base64.b64encode(hmac.new(key, policy, hashlib.sha1).digest()).decode()
        given = fields["signature"]
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise S3Error(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check"
            " your key and signing method.",
            status=403,
        )


def _check_fields(fields: Mapping[str, str]) -> None:
    """Raise S3Error if fields of the signature are missing."""
    needed = (
        ("x-amz-signature", "x-amz-credential", "x-amz-algorithm", "x-amz-date")
        if "x-amz-signature" in fields or "x-amz-credential" in fields
        else ("signature", "awsaccesskeyid")
    )
    for name in needed:
        if name not in fields:
            raise _missing_field(name)


def _secret(access_key: str, fields: Mapping[str, str], secret_of: SecretOf) -> str:
    secret = secret_of(access_key, fields.get("x-amz-security-token", ""))
    if secret is None:
        raise S3Error(
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
            status=403,
            AWSAccessKeyId=access_key,
        )
    return secret


def _is_length(entry: Any) -> bool:
    return isinstance(entry, list) and bool(entry) and str(entry[0]).lower() == _LENGTH


def _sizes(entry: list[Any]) -> tuple[int, int]:
    numbers = [_size(value) for value in entry[1:]]
    if len(numbers) != 2 or None in numbers:
        raise _invalid_policy(f"Invalid {_LENGTH} condition: {json.dumps(entry)}")
    return numbers[0] or 0, numbers[1] or 0


def _size(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 20 else None


def _condition(entry: Any) -> tuple[str, str, str]:
    if isinstance(entry, dict):
        if len(entry) != 1:
            raise _invalid_policy(
                "Invalid Simple-Condition: Simple-Conditions must have exactly one property"
                " specified."
            )
        ((name, value),) = entry.items()
        return "eq", name.lower(), str(value)
    if not isinstance(entry, list) or len(entry) != 3:
        raise _invalid_policy(f"Invalid Condition: {json.dumps(entry)}")
    operator, name, value = (str(word) for word in entry)
    if operator.lower() not in {"eq", "starts-with"} or not name.startswith("$"):
        raise _invalid_policy(f"Invalid Condition: {json.dumps(entry)}")
    return operator.lower(), name[1:].lower(), value


def _time(value: Any) -> datetime:
    try:
        time = datetime.fromisoformat(value)
        if "T" in value and time.tzinfo:
            return time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        """Raised below."""
    raise _invalid_policy(f"Invalid 'expiration' value: '{value}'")


def _denied(why: str) -> S3Error:
    return S3Error("AccessDenied", f"Invalid according to Policy: {why}", status=403)


def _invalid_policy(why: str) -> S3Error:
    return S3Error("InvalidPolicyDocument", f"Invalid Policy: {why}")


def _missing_field(name: str) -> S3Error:
    return S3Error(
        "InvalidArgument",
        f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the"
        " order of the fields.",
        ArgumentName=name,
    )
