"""What a service gives to the wire: operations by name, and AWS's errors, which they raise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from sagemaker_byoc.contract.http import API_PAYLOAD

Parameters: TypeAlias = dict[str, Any]
"""Values as the service model names and types them: aware datetimes, bytes for blobs."""

Operation: TypeAlias = Callable[[Parameters], Awaitable[Parameters]]
"""A coroutine of parameters that the service model has accepted; it may raise AwsError."""

ThreadOperation: TypeAlias = Callable[[Parameters], Parameters]
"""An operation as a plain function, which the wire runs in a thread: it may use files."""

Operations: TypeAlias = Mapping[str, Operation | ThreadOperation]
"""What a service answers, by AWS's names."""


class AwsError(Exception):
    """An error of AWS: the client gets `code` and `message` in the protocol of its request.

    `status` is the HTTP status; 400 is what JSON services answer for nearly all of them. `details`
    are further elements of an error document of S3: BucketName, Key, RangeRequested. `headers` are
    sent with errors of S3 and of the registry.
    """

    def __init__(self, code: str, message: str, *, status: int = 400, **details: str) -> None:
        self.code = code
        self.message = message
        self.status = status
        self.details = details
        self.headers: dict[str, str] = {}
        super().__init__(f"{code}: {message}")


class EntityTooLargeError(AwsError):
    """A body over the limit of its operation."""

    def __init__(self, limit: int) -> None:
        super().__init__("RequestEntityTooLarge", f"The body is over {limit} bytes", status=413)


def invocation_too_large() -> AwsError:
    limit = API_PAYLOAD.value
    text = f"HTTP content length exceeded {limit} bytes."
    return AwsError("ValidationError", text, status=413)
