"""Admission of requests: under this machine's names, not from foreign web pages, and signed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from urllib.parse import urlsplit

from sagemaker_byoc.region.core.account import CALLER, HINT, Credentials, Principal
from sagemaker_byoc.region.wire import signatures
from sagemaker_byoc.region.wire.http import BufferedBody, HashedBody, Request
from sagemaker_byoc.region.wire.operations import AwsError
from sagemaker_byoc.region.wire.signatures import V2, V4, MalformedError, NoDateError

_LOOPBACK = re.compile(r"localhost|.+\.localhost|127\.\d+\.\d+\.\d+|::1")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_STREAMING = (
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
)
"""Source: "Signature calculations for the Authorization header" of the S3 API reference."""
_STATED = re.compile("|".join([_SHA256.pattern, signatures.UNSIGNED_PAYLOAD, *_STREAMING]))
"""What S3 accepts as the body in a signature."""


class Denial(StrEnum):
    """Why a request is not admitted."""

    MISSING = "The request is not signed"
    MALFORMED = "The signature cannot be read"
    NO_DATE = "AWS authentication requires a valid Date or x-amz-date header"
    UNKNOWN_KEY = "The security token included in the request is invalid"
    EXPIRED_TOKEN = "The security token included in the request is expired"  # noqa: S105
    SKEWED = "The difference between the request time and the current time is too large"
    EXPIRED = "Request has expired"
    UNSIGNED_HEADER = "There were headers present in the request which were not signed"
    MISMATCH = (
        "The request signature we calculated does not match the signature you provided. "
        "Check your AWS Secret Access Key and signing method"
    )


Codes = Mapping[Denial, tuple[str, int]]
"""The error code and HTTP status of a protocol for each denial."""

JSON_CODES: Codes = {
    Denial.MISSING: ("MissingAuthenticationTokenException", 400),
    Denial.MALFORMED: ("IncompleteSignatureException", 400),
    Denial.NO_DATE: ("IncompleteSignatureException", 400),
    Denial.UNKNOWN_KEY: ("UnrecognizedClientException", 400),
    Denial.EXPIRED_TOKEN: ("ExpiredTokenException", 400),
    Denial.SKEWED: ("InvalidSignatureException", 400),
    Denial.EXPIRED: ("InvalidSignatureException", 400),
    Denial.UNSIGNED_HEADER: ("InvalidSignatureException", 400),
    Denial.MISMATCH: ("InvalidSignatureException", 400),
}
"""Source: "Common errors" of the SageMaker, ECR and CloudWatch Logs API references; AWS answers
these of the JSON protocol with 400."""

REST_CODES: Codes = {denial: (code, 403) for denial, (code, _) in JSON_CODES.items()}

QUERY_CODES: Codes = {
    Denial.MISSING: ("MissingAuthenticationToken", 403),
    Denial.MALFORMED: ("IncompleteSignature", 400),
    Denial.NO_DATE: ("IncompleteSignature", 400),
    Denial.UNKNOWN_KEY: ("InvalidClientTokenId", 403),
    Denial.EXPIRED_TOKEN: ("ExpiredToken", 403),
    Denial.SKEWED: ("SignatureDoesNotMatch", 403),
    Denial.EXPIRED: ("SignatureDoesNotMatch", 403),
    Denial.UNSIGNED_HEADER: ("SignatureDoesNotMatch", 403),
    Denial.MISMATCH: ("SignatureDoesNotMatch", 403),
}
"""Source: "Common errors" of the STS and IAM API references."""

S3_CODES: Codes = {
    Denial.MISSING: ("AccessDenied", 403),
    Denial.MALFORMED: ("AuthorizationHeaderMalformed", 400),
    Denial.NO_DATE: ("AccessDenied", 403),
    Denial.UNKNOWN_KEY: ("InvalidAccessKeyId", 403),
    Denial.EXPIRED_TOKEN: ("ExpiredToken", 400),
    Denial.SKEWED: ("RequestTimeTooSkewed", 403),
    Denial.EXPIRED: ("AccessDenied", 403),
    Denial.UNSIGNED_HEADER: ("AccessDenied", 403),
    Denial.MISMATCH: ("SignatureDoesNotMatch", 403),
}
"""Source: "Error responses" of the S3 API reference."""


class DeniedError(Exception):
    """A request that is not admitted; its protocol has the code."""

    def __init__(self, denial: Denial, detail: str = "") -> None:
        self.denial = denial
        self.message = f"{denial}{f': {detail}' if detail else ''}. {HINT}"
        super().__init__(self.message)


class Admission:
    """Decide on every request of the port. Without `credentials` any signature is accepted.

    `hosts` are further names, beside those of loopback, under which the region is reached.
    """

    def __init__(
        self, credentials: Credentials | None = None, hosts: set[str] | None = None
    ) -> None:
        self._credentials = credentials
        self._hosts = set() if hosts is None else hosts

    def check_origin(self, request: Request) -> None:
        """Refuse requests from web pages of other sites, and under foreign names of this machine.

        A page can have its own name resolve to 127.0.0.1 after it was loaded (DNS rebinding): its
        requests then count as same-origin in the browser, and only Host shows it. Raise AwsError.
        """
        host = request.headers.get("host", "")
        if host and not _is_loopback(host) and _hostname(host) not in self._hosts:
            raise AwsError(
                "AccessDenied",
                f"The local region is not called {host!r}: use localhost or 127.0.0.1",
                status=403,
            )
        origin = request.headers.get("origin")
        if origin is not None and not _is_loopback(_authority(origin)):
            raise AwsError(
                "AccessDenied",
                f"The local region does not accept requests of web pages from {origin}",
                status=403,
            )
        if request.headers.get("sec-fetch-site") == "cross-site":
            raise AwsError(
                "AccessDenied",
                "The local region does not accept requests of web pages of another site",
                status=403,
            )

    async def check_signature(self, request: Request, routed: Request, *, limit: int) -> None:
        """Admit a request of a service whose body is at most `limit` bytes, which is read here.

        `request` is as it was sent, `routed` as its handler gets it; the latter's body is replaced.
        Raise DeniedError, EntityTooLargeError.
        """
        if self._credentials is None:
            return
        signature, principal = self._signer(request)
        if isinstance(signature, V2):
            raise DeniedError(Denial.MALFORMED, "Signature Version 2 is for S3 only")
        if signature.seconds is not None and _now() > signature.time + timedelta(
            seconds=signature.seconds
        ):
            raise DeniedError(Denial.EXPIRED)
        if "x-amz-target" in request.headers and "x-amz-target" not in signature.headers:
            raise DeniedError(Denial.UNSIGNED_HEADER, "x-amz-target")
        data = await request.body.read(limit)
        digest = hashlib.sha256(data).hexdigest()
        stated = signature.payload_hash(request) or digest
        if stated.lower() != digest or not signature.matches(request, principal.secret_key, stated):
            raise DeniedError(Denial.MISMATCH)
        routed.body = BufferedBody(data)
        CALLER.set(principal)

    def check_s3_signature(self, request: Request, routed: Request) -> None:
        """Admit a request to S3, whose body is verified while it is read. Raise DeniedError."""
        if self._credentials is None or _is_post_policy(request):
            return
        signature, principal = self._signer(request)
        if isinstance(signature, V2):
            if not signature.matches(routed, principal.secret_key):
                raise DeniedError(Denial.MISMATCH)
        else:
            stated = _check_s3(signature, request, principal)
            if _SHA256.fullmatch(stated):
                routed.body = HashedBody(request.body, stated.lower())
        CALLER.set(principal)

    def _signer(self, request: Request) -> tuple[V4 | V2, Principal]:
        assert self._credentials is not None
        try:
            signature = signatures.read(request)
        except NoDateError as error:
            raise DeniedError(Denial.NO_DATE, str(error)) from error
        except MalformedError as error:
            raise DeniedError(Denial.MALFORMED, str(error)) from error
        if signature is None:
            raise DeniedError(Denial.MISSING)
        now = _now()
        principal = self._credentials.find(signature.access_key, signature.token, now)
        if principal is None:
            raise DeniedError(Denial.UNKNOWN_KEY)
        if principal.has_expired:
            raise DeniedError(Denial.EXPIRED_TOKEN)
        _check_clock(signature, now)
        return signature, principal


def _check_clock(signature: V4 | V2, now: datetime) -> None:
    if signature.time is None:  # a presigned URL of version 2 names its end instead
        return
    lasts = isinstance(signature, V4) and signature.seconds is not None
    early = signature.time - now > signatures.CLOCK_SKEW
    late = not lasts and now - signature.time > signatures.CLOCK_SKEW
    if early or late:
        raise DeniedError(Denial.SKEWED, f"it is {now:%Y%m%dT%H%M%SZ}")


def _check_s3(signature: V4, request: Request, principal: Principal) -> str:
    """Return what stands for the body in the signature."""
    stated = signature.payload_hash(request)
    if stated is None:
        raise DeniedError(Denial.MALFORMED, f"the header {signatures.CONTENT_SHA256} is missing")
    if not _STATED.fullmatch(stated):
        raise AwsError(
            "InvalidArgument",
            f"{signatures.CONTENT_SHA256} must be {signatures.UNSIGNED_PAYLOAD}, one of "
            f"{', '.join(_STREAMING)}, or a valid sha256 value",
            status=400,
        )
    if unsigned := signature.unsigned_headers(request):
        raise DeniedError(Denial.UNSIGNED_HEADER, ", ".join(unsigned))
    if not signature.matches(request, principal.secret_key, stated):
        raise DeniedError(Denial.MISMATCH)
    return stated


def _is_post_policy(request: Request) -> bool:
    """Return whether it is a browser's upload form, which has its signature within the body."""
    return (
        request.method == "POST"
        and request.headers.get("content-type", "").startswith("multipart/form-data")
        and "authorization" not in request.headers
        and not request.query_string
    )


@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    return _LOOPBACK.fullmatch(_hostname(host)) is not None


def _hostname(host: str) -> str:
    """Return `HOST:PORT` without the port, in lower case; "" if it cannot be read."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _authority(origin: str) -> str:
    """Return the `HOST:PORT` of an origin; "" if it cannot be read."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _now() -> datetime:
    return datetime.now(UTC)
