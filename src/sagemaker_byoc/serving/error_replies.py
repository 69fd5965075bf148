"""Error replies: a status, a code to program against and one sentence. Never a traceback.

Refusal                  any answer that is not the model's
├── BadInput             400
├── UnknownSession       400
├── UnknownModel         404
├── UnknownAdapter       404
├── AlreadyLoaded        409
├── SessionLost          410
├── PayloadTooLarge      413
├── UnsupportedType      415
├── UnsupportedCoding    415
├── NotAcceptable        406
├── SlowUpload           408
├── Unavailable          503
├── WorkerLost           500
├── AdapterFailed        424
├── LoadFailed           500
├── Overdue              504
└── OutOfMemory          507
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, ClassVar

MESSAGE_LENGTH = 1000
"""Characters of a message, which the caller sees inside SageMaker's own error text."""


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault of ours
    """A request that gets an error document instead of a prediction."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "InternalError"

    def __init__(self, message: str) -> None:
        self.message = message[:MESSAGE_LENGTH]
        super().__init__(self.message)


class BadInput(Refusal):
    """The body is not what its Content-Type says, or not what the model takes."""

    status = 400
    code = "BadInput"


class NotAcceptable(Refusal):
    """No type that the server can write matches the Accept header."""

    status = 406
    code = "NotAcceptable"


class UnknownModel(Refusal):
    """No model of that name is loaded, or its files are not there."""

    status = 404
    code = "ModelNotFound"


class UnknownAdapter(Refusal):
    """No adapter of that name is registered, or its files are not there."""

    status = 404
    code = "AdapterNotFound"


class AdapterFailed(Refusal):
    """A handler could not load or unload an adapter."""

    status = 424
    code = "AdapterFailed"


class AlreadyLoaded(Refusal):
    """A model of that name is loaded; unload it first."""

    status = 409
    code = "ModelAlreadyLoaded"


class UnknownSession(BadInput):
    """No session of that id is open."""

    code = "SessionNotFound"


class SessionLost(Refusal):
    """The session's state ended with the process that held it."""

    status = 410
    code = "SessionLost"


class SlowUpload(Refusal):
    """The body did not arrive in time."""

    status = 408
    code = "SlowUpload"


class PayloadTooLarge(Refusal):
    """The body exceeds the limit of the endpoint."""

    status = 413
    code = "PayloadTooLarge"


class UnsupportedType(Refusal):
    """There is no decoder for this Content-Type, and no input_fn."""

    status = 415
    code = "UnsupportedMediaType"


class UnsupportedCoding(Refusal):
    """The Content-Encoding of the body is not known."""

    status = 415
    code = "UnsupportedContentEncoding"


class WorkerLost(Refusal):
    """The model's process ended while it ran this request."""

    status = 500
    code = "ModelWorkerDied"


class Unavailable(Refusal):
    """No model is ready, or too many requests are waiting already."""

    status = 503
    code = "Unavailable"


class Overdue(Refusal):
    """The deadline passed before the model received the request."""

    status = 504
    code = "DeadlineExceeded"


class LoadFailed(Refusal):
    """The model cannot be loaded, whatever memory is free."""

    status = 500
    code = "ModelLoadFailed"


class OutOfMemory(Refusal):
    """There is not enough memory; SageMaker unloads other models and tries again."""

    status = 507
    code = "OutOfMemory"


STATUSES = ("status_code", "error_code", "code")
MESSAGES = ("message", "detail", "description")
NOT_THE_CALLERS = (OSError, SystemExit)
"""Errors whose `code` is not an HTTP status: an upstream's answer, or a shell's exit code."""
FORMAT_ERROR = "UnsupportedFormatError"
"""The error of sagemaker_inference for an unknown media type, in or out; it has no status."""


def named_by(error: BaseException) -> tuple[int, str, str] | None:
    """Return status, code and message for the caller, or None if the error names none."""
    status = _status_of(error)
    if status is None or isinstance(error, NOT_THE_CALLERS):
        return None
    found = [getattr(error, name, None) for name in MESSAGES]
    message = next((text for text in found if text), None) or str(error)
    if not isinstance(message, str):
        message = json.dumps(message, default=str)
    return status, FORMAT_ERROR if _is_format_error(error) else _code_of(status), message


def _status_of(error: BaseException) -> int | None:
    for name in STATUSES:
        status: Any = getattr(error, name, None)
        if not issubclass(type(status), int) or type(status) is bool:
            continue
        exact = int.__index__(status)  # whatever a subclass returns
        if 400 <= exact <= 599:
            return exact
    return HTTPStatus.UNSUPPORTED_MEDIA_TYPE if _is_format_error(error) else None


def _is_format_error(error: BaseException) -> bool:
    return FORMAT_ERROR in {kind.__name__ for kind in type(error).__mro__}


def _code_of(status: int) -> str:
    try:
        return "".join(filter(str.isalpha, HTTPStatus(status).phrase))
    except ValueError:
        return "ModelError"
