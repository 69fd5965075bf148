"""Responses: from an outcome to bytes."""

from __future__ import annotations

import os
import traceback
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias

import orjson

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.error_replies import Refusal, UnsupportedCoding, WorkerLost
from sagemaker_byoc.serving.front.broker.tickets import End, Outcome
from sagemaker_byoc.serving.front.http.requests import ACCEPTED, Call

Send: TypeAlias = "Callable[[dict[str, Any]], Awaitable[None]]"
Headers: TypeAlias = "list[tuple[bytes, bytes]]"

DEFECT = "The server failed; see its log"
METHODS = {0: ("GET", "POST"), 1: ("GET", "DELETE"), 2: ("POST",)}
"""Methods by the number of path segments after /adapters or /models."""
RETRY_AFTER = b"1"
PIECE = 2**18
"""Bytes of a large reply that are in memory at once."""


@dataclass(slots=True)
class Answer:
    """A whole response, or the start of a streamed one."""

    status: int
    headers: Headers
    data: bytes = b""


def json_answer(value: object) -> Answer:
    return Answer(200, [(b"Content-Type", media.JSON.encode())], orjson.dumps(value))


def answer_of(call: Call, outcome: Outcome) -> Answer:
    """Return the response for the outcome of a request."""
    if outcome.end is End.REPLIED or outcome.end is End.STREAM:
        error = outcome.meta.get("error")
        if error is None:
            status = outcome.meta.get("status", HTTPStatus.OK)
            return Answer(status, _headers_of(outcome.meta), outcome.body.data)
        return document(error["status"], error["code"], error["message"], call.request_id)
    if outcome.end is End.LOST:
        text = "The model's process ended while it ran this request; see the log"
        return refused(WorkerLost(text), call.request_id)
    if outcome.end is End.EXPIRED:
        where = "it was running" if outcome.ran else "it was waiting for a model worker"
        message = f"The deadline passed while {where}"
        return document(504, "DeadlineExceeded", message, call.request_id)
    message = f"The request can't be sent to the model: {outcome.reason}"
    return document(431, "HeadersTooLarge", message, call.request_id)


def _headers_of(meta: Mapping[str, Any]) -> Headers:
    """Return the headers, with exactly the model's Content-Type: data capture relies on it."""
    content_type = meta.get("content_type", media.OCTETS)
    headers = [(b"Content-Type", content_type.encode("latin-1"))]
    extra = meta.get("headers")
    if extra:
        headers += [(name.encode("latin-1"), text.encode("latin-1")) for name, text in extra]
    return headers


def refused(refusal: Refusal, request_id: str = "") -> Answer:
    answer = document(refusal.status, refusal.code, refusal.message, request_id)
    if isinstance(refusal, UnsupportedCoding):
        answer.headers.append((b"Accept-Encoding", ACCEPTED.encode()))
    return answer


def not_allowed(method: str, path: str, allowed: Sequence[str]) -> Answer:
    answer = document(405, "MethodNotAllowed", f"{method} {path[:200]}")
    answer.headers.append((b"Allow", ", ".join(allowed).encode()))
    return answer


def document(status: int, code: str, message: str, request_id: str = "") -> Answer:
    """Return an error document; all errors have this form. Without a request's id, make one."""
    error = {"code": code, "message": message, "request_id": request_id or os.urandom(8).hex()}
    headers: Headers = [(b"Content-Type", media.JSON.encode())]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"Retry-After", RETRY_AFTER))
    return Answer(status, headers, orjson.dumps({"error": error}))


async def send_answer(send: Send, answer: Answer) -> None:
    """Send a whole answer with its length."""
    answer.headers.append((b"Content-Length", b"%d" % len(answer.data)))
    start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
    await send(start)
    await send({"type": "http.response.body", "body": answer.data})


async def send_file(send: Send, answer: Answer, body: Body) -> None:
    """Send the worker's memory file piece by piece, as fast as the client reads."""
    answer.headers.append((b"Content-Length", b"%d" % body.size))
    start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
    await send(start)
    for position in range(0, body.size, PIECE):
        piece = body.piece(position, PIECE)
        has_more = position + PIECE < body.size
        await send({"type": "http.response.body", "body": piece, "more_body": has_more})
    body.close()


async def send_stream(send: Send, answer: Answer, stream: AsyncIterable[bytes]) -> int:
    """Send a stream as chunks until the worker's last piece; return the number of bytes."""
    size = 0
    start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
    await send(start)
    async for piece in stream:
        if piece:  # an empty chunk would be the end
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            size += len(piece)
    await send({"type": "http.response.body", "body": b""})
    return size


def traceback_of(error: BaseException, request_id: str) -> str:
    lines = traceback.format_exception(error)
    return f"request {request_id} failed because of a defect of the server\n{''.join(lines)}"
