"""Errors of the user's code that name the status of the reply.

Toolkits and web frameworks have such errors: `.status_code` and `.message` (sagemaker_inference),
`.code` and `.description` (Flask's abort), `.status_code` and `.detail` (FastAPI), `.error_code`
(the PredictionException of multi-model-server and TorchServe).
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

STATUSES = ("status_code", "error_code", "code")
MESSAGES = ("message", "detail", "description")
NOT_THE_CALLERS = (OSError, SystemExit)
"""Their `code` has another meaning: of an upstream's answer, or for a shell."""
FORMAT_ERROR = "UnsupportedFormatError"
"""sagemaker_inference's error for a media type, in or out; it has no status."""


def told_by(error: BaseException) -> tuple[int, str, str] | None:
    """Status, code and message for the caller; None for an error that names none."""
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
        exact = int.__index__(status)  # past what a subclass says
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
