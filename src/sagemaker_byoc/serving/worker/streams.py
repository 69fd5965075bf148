"""Streamed replies: what a user's generator yields, as frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.bodies import INLINE, Body
from sagemaker_byoc.serving.link import Frame, Kind
from sagemaker_byoc.serving.worker.code import guard
from sagemaker_byoc.serving.worker.formats import codecs, values
from sagemaker_byoc.serving.worker.jobs import Job, exact_bytes

_LINE_END = re.compile(r"\r\n|\r|\n")
TEXT = "text/plain; charset=utf-8"


def frames_of(job: Job, is_cancelled: Callable[[int], bool]) -> Iterator[Frame]:
    """Yield the pieces, then the end.

    Before the first item is sent, an error is an ordinary reply; after that only a cut connection
    can show the caller that something went wrong.
    """
    items = _Items(job)
    try:
        while not items.is_over:
            has_begun = items.has_begun
            failure = guard.attempt(items.take)
            if failure is not None:
                if has_begun and _is_events(job):
                    text = orjson.dumps({"error": failure.message}).decode()
                    yield _part(job, _event(text, name="error"))
                job.fail(failure)
                break
            if has_begun and is_cancelled(job.frame.id):
                break
            yield from items.frames
        yield job.reply or Frame(Kind.REPLY, job.frame.id)
    finally:
        failure = guard.attempt(guard.close, job.stream)
        if failure is not None:
            job.complain(failure)


class _Items:
    """The items of a user's iterator; `take` runs the user's code and leaves `frames`."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._encode: Callable[[object], bytes] | None = None
        self._head: dict[str, Any] = {}
        self.frames: list[Frame] = []
        self.has_begun = False
        """Whether anything has been sent to the caller; an empty item does not count."""
        self.is_over = False

    def take(self) -> None:
        """Take the next item; `reply` is set if there is none at all."""
        job = self._job
        assert job.stream is not None
        self.frames = []
        try:
            item = next(job.stream)
        except StopIteration:
            self.is_over = True
            if not self.has_begun:
                default = self._head.get("content_type", job.accept)
                job.succeed(job.context.reply_content_type or default, b"")
            return
        if self._encode is None:
            self._encode, content_type = _encoder(job, item)
            self._head = job.head(job.context.reply_content_type or content_type)
        frames = [_part(job, piece) for piece in _cut(self._encode(item))]
        if frames and not self.has_begun:
            frames[0].meta = self._head
        self.frames = frames
        self.has_begun |= bool(frames)


def _part(job: Job, data: bytes) -> Frame:
    return Frame(Kind.PART, job.frame.id, {}, Body(data))


def _cut(data: bytes) -> Iterator[bytes]:
    """Return parts small enough to travel in a packet."""
    for start in range(0, len(data), INLINE):
        yield data[start : start + INLINE]


def _is_events(job: Job) -> bool:
    return job.accept == media.EVENT_STREAM


def _encoder(job: Job, first: object) -> tuple[Callable[[object], bytes], str]:
    """Return how items are written, which the first one decides."""
    if _is_events(job):
        return (lambda item: _event(_text(item))), media.EVENT_STREAM
    if isinstance(first, str):
        return (lambda item: _text(item).encode()), TEXT
    if isinstance(first, bytes | bytearray | memoryview):
        return _bytes, media.OCTETS
    return (lambda item: codecs.encode_json(values.plain(item)) + b"\n"), media.JSON_LINES


def _bytes(item: object) -> bytes:
    if not isinstance(item, bytes | bytearray | memoryview):
        raise TypeError(f"the stream began with bytes and continues with {type(item).__name__}")
    return exact_bytes(item)


def _text(item: object) -> str:
    if isinstance(item, str):
        return str.__str__(item)  # whatever a subclass does
    if isinstance(item, bytes | bytearray | memoryview):
        return exact_bytes(item).decode()
    return codecs.encode_json(values.plain(item)).decode()


def _event(text: str, name: str = "") -> bytes:
    """Return one server-sent event; text of several lines, which CR ends too, has several
    fields."""
    head = f"event: {name}\n" if name else ""
    data = "".join(f"data: {line}\n" for line in _LINE_END.split(text))
    return f"{head}{data}\n".encode()
