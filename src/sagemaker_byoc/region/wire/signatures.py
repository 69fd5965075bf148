"""Request signatures: Signature Version 4, and S3's Version 2 that boto3 still presigns with.

Sources: "AWS Signature Version 4 for API requests" (IAM User Guide), "Signing and authenticating
REST requests" (S3 API reference). botocore's signers are the reference in the tests.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import quote, unquote, urlsplit

from sagemaker_byoc.region.core.account import Keys
from sagemaker_byoc.region.wire.http import Request

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
CONTENT_SHA256 = "x-amz-content-sha256"
TOKEN = "x-amz-security-token"  # noqa: S105 - a header's name
CLOCK_SKEW = timedelta(minutes=15)
"""How far a client's clock may be off."""
LONGEST_PRESIGNED = 604_800
"""Seconds: a week."""
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

OWN_SERVICE = "byoc"
"""What requests to `/_byoc/…` are signed for."""
_S3 = "s3"
_EPOCH = datetime.fromtimestamp(0, UTC)
_TIME = "%Y%m%dT%H%M%SZ"
_CREDENTIAL = re.compile(
    r"(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]*)/(?P<service>[^/]+)/aws4_request"
)
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_-]+)+")
"""A path that is signed as it is sent."""
_V2_RESOURCES = frozenset({
    "accelerate", "acl", "analytics", "cors", "delete", "inventory", "lifecycle", "location",
    "logging", "metrics", "notification", "object-lock", "partNumber", "policy", "replication",
    "requestPayment", "response-cache-control", "response-content-disposition",
    "response-content-encoding", "response-content-language", "response-content-type",
    "response-expires", "restore", "select", "select-type", "storageClass", "tagging", "torrent",
    "uploadId", "uploads", "versionId", "versioning", "versions", "website",
})  # fmt: skip
"""The query parameters that Version 2 signs."""


class MalformedError(Exception):
    """An Authorization header or a presigned query that cannot be read, and why."""


class NoDateError(MalformedError):
    """A request without the time of its signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class V4:
    """The Version 4 signature of a request."""

    access_key: str
    token: str
    signature: str
    time: datetime
    date: str
    region: str
    service: str
    headers: tuple[str, ...]
    """Names of the signed headers, in lower case."""
    seconds: int | None
    """How long a presigned URL is valid; None for a signature in the headers."""

    def payload_hash(self, request: Request) -> str | None:
        """Return what stands for the body in the signature, or None if that is its SHA-256."""
        stated = request.headers.get(CONTENT_SHA256)
        if stated is None and self.seconds is not None and self.service == _S3:
            return request.query.get("X-Amz-Content-Sha256", UNSIGNED_PAYLOAD)
        return stated

    def matches(self, request: Request, secret_key: str, payload_hash: str) -> bool:
        key = signing_key(secret_key, self.date, self.region, self.service)
        return any(
            hmac.compare_digest(_v4(key, self, text).encode(), self.signature.encode())
            for text in _canonical_requests(request, self, payload_hash)
        )

    def unsigned_headers(self, request: Request) -> list[str]:
        """Return the `x-amz-*` headers of `request` that S3 wants signed and that are not."""
        return [
            name
            for name in request.headers
            if name.startswith("x-amz-") and name not in self.headers and name != CONTENT_SHA256
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class V2:
    """The Version 2 signature of a request to S3."""

    access_key: str
    token: str
    signature: str
    expires: str
    """Seconds since 1970 in a presigned URL; empty for a signature in the headers."""
    time: datetime | None
    """When the request was signed; None in a presigned URL."""

    def matches(self, request: Request, secret_key: str) -> bool:
        """Return whether it is right; `request` has the bucket in its path, as signed."""
        path = request.target
        # A bucket is signed with a slash after it, which not all clients send.
        paths = [path, f"{path}/"] if path.count("/") == 1 else [path]
        return any(
            hmac.compare_digest(
                base64.b64encode(hmac.digest(secret_key.encode(), text, hashlib.sha1)),
                self.signature.encode(),
            )
            for text in (self._text(request, path) for path in paths)
        )

    def _text(self, request: Request, path: str) -> bytes:
        query = {name: unquote(value) for name, value in _pairs(request.query_string)}
        moved = {name.lower(): value for name, value in query.items()} if self.expires else {}
        headers = {**moved, **request.headers}
        date = self.expires or ("" if "x-amz-date" in headers else headers.get("date", ""))
        amz = sorted(
            f"{name}:{' '.join(value.split())}\n"
            for name, value in headers.items()
            if name.startswith("x-amz-")
        )
        wanted = sorted(
            f"{name}={value}" if value else name
            for name, value in query.items()
            if name in _V2_RESOURCES
        )
        resource = path + (f"?{'&'.join(wanted)}" if wanted else "")
        head = [request.method, headers.get("content-md5", ""), headers.get("content-type", "")]
        return ("\n".join([*head, date, ""]) + "".join(amz) + resource).encode("latin-1", "replace")


Signature: TypeAlias = V4 | V2


def read(request: Request) -> Signature | None:
    """Return the signature that `request` carries, or None; raise MalformedError."""
    text = request.headers.get("authorization", "")
    if text.startswith(ALGORITHM):
        return _read_header(request, text)
    if text.startswith("AWS "):
        access_key, _, signature = text[4:].strip().rpartition(":")
        token = request.headers.get(TOKEN, "")
        time = _v2_time(request.headers)
        return V2(access_key=access_key, token=token, signature=signature, expires="", time=time)
    if text.startswith("AWS4-"):
        raise MalformedError(f"{text.split()[0]} is not supported here: sign with {ALGORITHM}")
    if "X-Amz-Signature=" in request.query_string:
        return _read_query(request.query)
    if "Signature=" in request.query_string and "AWSAccessKeyId=" in request.query_string:
        query = request.query
        if not (query.get("AWSAccessKeyId") and query.get("Expires")):
            raise MalformedError("A presigned URL needs AWSAccessKeyId, Signature and Expires")
        return V2(
            access_key=query["AWSAccessKeyId"],
            token=query.get(TOKEN, ""),
            signature=query.get("Signature", ""),
            expires=query["Expires"],
            time=None,
        )
    return None


def sign(method: str, url: str, keys: Keys) -> dict[str, str]:
    """Return the headers that sign a request without a body to the region's own interface."""
    parts = urlsplit(url)
    time = datetime.now(UTC)
    headers = {"host": parts.netloc, "x-amz-date": time.strftime(_TIME)}
    if keys.token:
        headers[TOKEN] = keys.token
    names = tuple(sorted(headers))
    signature = V4(
        access_key=keys.access_key,
        token=keys.token,
        signature="",
        time=time,
        date=time.strftime("%Y%m%d"),
        region="local",
        service=OWN_SERVICE,
        headers=names,
        seconds=None,
    )
    key = signing_key(keys.secret_key, signature.date, signature.region, signature.service)
    line = f"{method}\n{quote(parts.path, safe='/~')}\n"
    value = _v4(key, signature, _canonical(line, headers, names, EMPTY_SHA256))
    credential = f"{keys.access_key}/{signature.date}/local/{OWN_SERVICE}/aws4_request"
    del headers["host"]  # set by every HTTP client
    return {
        **headers,
        "authorization": f"{ALGORITHM} Credential={credential}, "
        f"SignedHeaders={';'.join(names)}, Signature={value}",
    }


@lru_cache(maxsize=64)
def signing_key(secret_key: str, date: str, region: str, service: str) -> bytes:
    """Return the key that signs one day's requests to one service."""
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return key


def _read_header(request: Request, text: str) -> V4:
    fields = {}
    for part in text.removeprefix(ALGORITHM).split(","):
        name, _, value = part.strip().partition("=")
        fields[name] = value
    if lacking := {"Credential", "SignedHeaders", "Signature"} - fields.keys():
        names = ", ".join(sorted(lacking))
        raise MalformedError(f"The Authorization header lacks {names}")
    return _v4_of(
        (fields["Credential"], fields["SignedHeaders"], fields["Signature"]),
        time=_header_time(request.headers),
        token=request.headers.get(TOKEN, ""),
        seconds=None,
    )


def _read_query(query: Mapping[str, str]) -> V4:
    names = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
             "X-Amz-SignedHeaders")  # fmt: skip
    if lacking := [name for name in names if not query.get(name)]:
        raise MalformedError(f"The presigned query lacks {', '.join(lacking)}")
    if query["X-Amz-Algorithm"] != ALGORITHM:
        raise MalformedError(f"X-Amz-Algorithm must be {ALGORITHM}")
    seconds = query["X-Amz-Expires"]
    if not re.fullmatch(r"\d{1,7}", seconds) or int(seconds) > LONGEST_PRESIGNED:
        raise MalformedError(
            f"X-Amz-Expires must be a number of seconds up to {LONGEST_PRESIGNED}, not {seconds!r}"
        )
    return _v4_of(
        (query["X-Amz-Credential"], query["X-Amz-SignedHeaders"], query["X-Amz-Signature"]),
        time=_time(query["X-Amz-Date"]),
        token=query.get("X-Amz-Security-Token", ""),
        seconds=int(seconds),
    )


def _v4_of(fields: tuple[str, str, str], *, time: datetime, token: str, seconds: int | None) -> V4:
    """Return a signature of the credential, the signed headers' names, and the signature."""
    credential, names, signature = fields
    found = _CREDENTIAL.fullmatch(credential)
    if found is None:
        raise MalformedError(
            f"The credential {credential!r} is not ACCESS-KEY/YYYYMMDD/REGION/SERVICE/aws4_request"
        )
    if found["date"] != _text_of(time)[:8]:
        raise MalformedError(f"The credential's date is {found['date']}, the request's is not")
    headers = tuple(names.lower().split(";"))
    if "host" not in headers:
        raise MalformedError("The header 'host' must be signed")
    return V4(
        access_key=found["key"],
        token=token,
        signature=signature,
        time=time,
        date=found["date"],
        region=found["region"],
        service=found["service"],
        headers=headers,
        seconds=seconds,
    )


def _header_time(headers: Mapping[str, str]) -> datetime:
    text = headers.get("x-amz-date")
    if text is not None:
        return _time(text)
    try:
        return parsedate_to_datetime(headers.get("date", "")).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MalformedError("The request needs an X-Amz-Date or a Date header") from None


def _v2_time(headers: Mapping[str, str]) -> datetime:
    text = headers.get("x-amz-date", headers.get("date", ""))
    try:
        time = parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise NoDateError(f"{text!r} is not a date as in Tue, 27 Mar 2007 19:36:42 GMT") from None
    if time < _EPOCH:
        raise NoDateError(f"{text!r} is before 1970")
    return time


@lru_cache(maxsize=64)
def _time(text: str) -> datetime:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise MalformedError(f"{text!r} is not a time as in 20170102T030405Z") from None


@lru_cache(maxsize=64)
def _text_of(time: datetime) -> str:
    return time.strftime(_TIME)


def _v4(key: bytes, signature: V4, canonical: str) -> str:
    scope = f"{signature.date}/{signature.region}/{signature.service}/aws4_request"
    time = _text_of(signature.time)
    digest = hashlib.sha256(canonical.encode("latin-1", "replace")).hexdigest()
    text = f"{ALGORITHM}\n{time}\n{scope}\n{digest}"
    inner, outer = (padded.copy() for padded in _padded(key))
    inner.update(text.encode())
    outer.update(inner.digest())
    return outer.hexdigest()


@lru_cache(maxsize=64)
def _padded(key: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """Return the two hashes of an HMAC-SHA256, which have read the key (RFC 2104).

    `hmac.digest` lets another thread run at each call, and then waits for its turn.
    """
    block = key.ljust(hashlib.sha256().block_size, b"\0")
    return (
        hashlib.sha256(bytes(byte ^ 0x36 for byte in block)),
        hashlib.sha256(bytes(byte ^ 0x5C for byte in block)),
    )


def _canonical_requests(request: Request, signature: V4, payload_hash: str) -> Iterator[str]:
    """Yield the forms that clients sign: the path and the query as sent, then as AWS encodes them.

    botocore sends what it signs; other clients sign characters encoded and send them bare.
    """
    path, query = request.target or "/", request.query_string
    if not query and _PLAIN_PATH.fullmatch(path):
        line = f"{request.method}\n{path}\n"
        yield _canonical(line, request.headers, signature.headers, payload_hash)
        return
    if signature.service != _S3:
        path = _normalized(path)
        path, encoded = quote(path, safe="/~"), path
    else:
        encoded = quote(unquote(path, "latin-1"), safe="/~", encoding="latin-1")
    for place, text in ((path, _query(query)), (encoded, _query(query, encode=True))):
        line = f"{request.method}\n{place}\n{text}"
        yield _canonical(line, request.headers, signature.headers, payload_hash)


def _canonical(
    line: str, headers: Mapping[str, str], names: tuple[str, ...], payload_hash: str
) -> str:
    """Return the canonical request. `line` is the method, the path and the query."""
    lines = [f"{name}:{' '.join(headers.get(name, '').split())}" for name in names]
    return "\n".join([line, *lines, "", ";".join(names), payload_hash])


def _query(text: str, *, encode: bool = False) -> str:
    pairs = [pair for pair in _pairs(text) if pair[0] != "X-Amz-Signature"]
    if encode:
        pairs = [(_encoded(name), _encoded(value)) for name, value in pairs]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _encoded(text: str) -> str:
    return quote(unquote(text.replace("+", " "), "latin-1"), safe="~", encoding="latin-1")


def _pairs(query: str) -> list[tuple[str, str]]:
    found = [part.partition("=") for part in query.split("&") if part]
    return [(name, value) for name, _, value in found]


def _normalized(path: str) -> str:
    """Return `path` without dot segments and doubled slashes, as every service but S3 signs it."""
    found = posixpath.normpath(path)
    if found.startswith("//"):
        found = found[1:]
    return f"{found}/" if path.endswith("/") and found != "/" else found
