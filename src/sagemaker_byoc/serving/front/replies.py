"""From an outcome to a response, and to the one log line of a request."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO

from flask import Response, request

from sagemaker_byoc.serving import log, media
from sagemaker_byoc.serving.errors import Refusal, WorkerLost
from sagemaker_byoc.serving.front.tickets import End, Outcome
from sagemaker_byoc.serving.link import Body

RETRY_AFTER = "1"


@dataclass(slots=True)
class Call:
    """What is known of one request from its start."""

    request_id: str
    inference_id: str
    began: float
    bytes_in: int = 0


def answered(call: Call, outcome: Outcome, on_sent: Callable[[], None]) -> Response:
    """The response for how the request ended; `on_sent` runs when it is out."""
    if outcome.end is End.LOST:
        raise WorkerLost("The model's process ended while it ran this request; see the log")
    if outcome.end is End.EXPIRED:
        where = "it was running" if outcome.ran else "it was waiting for a model worker"
        message = f"The deadline passed while {where}"
        response = document(504, "DeadlineExceeded", message, call.request_id)
    elif outcome.end is End.UNSENDABLE:
        message = f"The request can't be passed on: {outcome.reason}"
        response = document(431, "HeadersTooLarge", message, call.request_id)
    elif "error" in outcome.meta:
        status, code, message = _error_of(outcome)
        response = document(status, code, message, call.request_id)
    else:
        response = _reply(outcome, on_sent)
    _record(call, response.status_code, outcome.body.size, outcome)
    return response


def _error_of(outcome: Outcome) -> tuple[int, str, str]:
    error = outcome.meta["error"]
    assert isinstance(error, dict)
    return int(error["status"]), str(error["code"]), str(error["message"])


def _reply(outcome: Outcome, on_sent: Callable[[], None]) -> Response:
    """The model's bytes under exactly its Content-Type."""
    body = outcome.body
    response = Response(body.data) if body.descriptor is None else _file_reply(body, on_sent)
    response.headers["Content-Type"] = str(outcome.meta.get("content_type", media.OCTETS))
    headers = outcome.meta.get("headers")
    if isinstance(headers, dict):
        for name, value in headers.items():
            response.headers[str(name)] = str(value)
    return response


def _file_reply(body: Body, on_sent: Callable[[], None]) -> Response:
    """Straight from the memory file to the socket."""
    assert body.descriptor is not None
    descriptor, body.descriptor = body.descriptor, None
    os.lseek(descriptor, 0, os.SEEK_SET)  # the worker wrote through the same position
    file = _SentFile(os.fdopen(descriptor, "rb"), on_sent)
    wrapped = request.environ["wsgi.file_wrapper"](file)
    response = Response(wrapped, direct_passthrough=True)
    response.content_length = body.size
    return response


class _SentFile:
    """A file that says when it is closed: the server closes it when the reply is out."""

    def __init__(self, file: IO[bytes], on_sent: Callable[[], None]) -> None:
        self._file = file
        self._on_sent = on_sent
        self.read = file.read
        self.fileno = file.fileno
        self.tell = file.tell
        self.seek = file.seek

    def close(self) -> None:
        self._file.close()
        self._on_sent()


def refused(call: Call, refusal: Refusal) -> Response:
    response = document(refusal.status, refusal.code, refusal.message, call.request_id)
    _record(call, refusal.status, 0)
    return response


def document(status: int, code: str, message: str, request_id: str) -> Response:
    """The one shape of all our errors."""
    error = {"code": code, "message": message, "request_id": request_id}
    response = Response(json.dumps({"error": error}), status, mimetype=media.JSON)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = RETRY_AFTER
    return response


def _record(call: Call, status: int, bytes_out: int, outcome: Outcome | None = None) -> None:
    event: dict[str, object] = {
        "event": "invocation",
        "status": status,
        "bytes_in": call.bytes_in,
        "bytes_out": bytes_out,
        "queue_ms": _milliseconds(outcome.queued if outcome else 0.0),
        "handler_ms": _milliseconds(outcome.ran if outcome else 0.0),
        "total_ms": _milliseconds(time.monotonic() - call.began),
        "request_id": call.request_id,
    }
    if call.inference_id:
        event["inference_id"] = call.inference_id
    log.record(event)


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)


def traceback_of(error: BaseException, request_id: str) -> str:
    lines = traceback.format_exception(error)
    return f"request {request_id} failed by a defect of the server\n{''.join(lines)}"
