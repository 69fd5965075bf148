"""redact_fn: the user's own code decides what of an invocation may be captured.

It runs after the reply has been sent, and before the worker's next request. Whatever goes wrong in
it, nothing that it has not returned leaves this process, not even in an error's text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving import log, media
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.capture.options import CHOSEN
from sagemaker_byoc.serving.link import Frame, Kind
from sagemaker_byoc.serving.worker.code import guard
from sagemaker_byoc.serving.worker.code.guard import Failure
from sagemaker_byoc.serving.worker.code.handlers import Handler
from sagemaker_byoc.serving.worker.jobs import Job, exact_bytes

SILENCE = 60.0
"""Seconds between two log lines about a failing redact_fn."""


class Redaction:
    """The redaction of one worker; `limit` is the size of the largest captured body."""

    def __init__(self, handler: Handler, limit: int) -> None:
        self._handler = handler
        self._limit = limit
        self._pieces: dict[int, list[bytes]] = {}
        self._types: dict[int, str] = {}
        self._cut: set[int] = set()
        """Ids of streams whose client has left."""
        self._silent_until = 0.0

    def noting(self, is_cancelled: Callable[[int], bool]) -> Callable[[int], bool]:
        """Return `is_cancelled`, wrapped so that cut streams are noted."""

        def check(ident: int) -> bool:
            found = is_cancelled(ident)
            if found:
                self._cut.add(ident)
            return found

        return check

    def watch(self, job: Job, frame: Frame) -> None:
        """Keep a frame of a streamed reply that has been sent."""
        if CHOSEN in job.frame.meta and frame.kind is Kind.PART:
            pieces = self._pieces.setdefault(job.frame.id, [])
            pieces.append(frame.body.data)
            if "content_type" in frame.meta:
                self._types[job.frame.id] = frame.meta["content_type"]

    def frames(self, jobs: Sequence[Job]) -> Iterator[list[Frame]]:
        """Yield what the front may write, one packet each, once the replies are sent."""
        for job in jobs:
            if CHOSEN in job.frame.meta and job.frame.id not in self._cut and _is_good(job):
                yield [self._frame(job)]
        self._cut.clear()
        self._pieces.clear()
        self._types.clear()

    def _frame(self, job: Job) -> Frame:
        ident = job.frame.id
        if job.reply is not None:
            reply, reply_type = job.reply.body, job.reply.meta.get("content_type", media.OCTETS)
        else:
            reply = Body(b"".join(self._pieces.get(ident, [])))
            reply_type = self._types.get(ident, media.OCTETS)
        if max(job.frame.body.size, reply.size) > self._limit:
            return Frame(Kind.CAPTURED, ident, {"outcome": "size"})
        frames: list[Frame] = []

        def redact() -> None:
            job.context.reply_content_type = reply_type
            found = self._handler(_bytes(job.frame.body), _bytes(reply), context=job.context)
            frames.append(_captured(job, reply_type, found))

        failure = guard.attempt(redact)
        if failure is not None:
            self._complain(failure)
            return Frame(Kind.CAPTURED, ident, {"outcome": "redaction"})
        return frames[0]

    def _complain(self, failure: Failure) -> None:
        """Log the type of an error and its place; its text may contain the very data."""
        now = time.monotonic()
        if now < self._silent_until:
            return
        self._silent_until = now + SILENCE
        log.say(f"capture: redact_fn failed: {failure.place}; nothing of it is written")


def _is_good(job: Job) -> bool:
    """Return whether the caller gets the reply: 2xx, and in time."""
    deadline = job.frame.meta["deadline"]
    if deadline and deadline <= time.monotonic() and job.stream is None:
        return False
    meta: dict[str, Any] = dict(job.reply.meta) if job.reply is not None else {}
    return "error" not in meta and 200 <= meta.get("status", 200) < 300


def _bytes(body: Body) -> bytes:
    return body.piece(0, body.size)


def _captured(job: Job, reply_type: str, found: object) -> Frame:
    """Return what redact_fn has returned, checked."""
    if found is None:
        return Frame(Kind.CAPTURED, job.frame.id, {"outcome": "skipped"})
    request, reply = _checked(found)
    meta = {
        "content_type": job.frame.meta["content_type"],
        "reply_type": reply_type,
        "inference_id": job.frame.meta.get("headers", {}).get(http.INFERENCE_ID.value.lower(), ""),
        "request_size": len(request),
    }
    return Frame(Kind.CAPTURED, job.frame.id, meta, Body.of(request + reply))


def _checked(found: object) -> tuple[bytes, bytes]:
    if not isinstance(found, tuple) or len(found) != 2:
        raise TypeError("redact_fn must return (request, reply), or None for no record")
    request, reply = (str.encode(part) if isinstance(part, str) else part for part in found)
    if not isinstance(request, bytes) or not isinstance(reply, bytes):
        raise TypeError("redact_fn must return bytes or str, two of them")
    return exact_bytes(request), exact_bytes(reply)
