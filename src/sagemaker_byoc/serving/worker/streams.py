"""Replies in pieces: what a generator of the user's yields, as frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.bodies import INLINE, Body
from sagemaker_byoc.serving.link import Frame, Kind
from sagemaker_byoc.serving.worker import codecs, defaults
from sagemaker_byoc.serving.worker.jobs import Job, text_of

TEXT = "text/plain; charset=utf-8"


def frames_of(job: Job, is_cancelled: Callable[[int], bool]) -> Iterator[Frame]:
    """Pieces, then the end. Until the first item is there, an error is an ordinary reply; after
    that the caller can only be shown by a cut that something was wrong."""
    assert job.stream is not None
    stream = job.stream
    try:
        yield from _pieces(job, stream, is_cancelled)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything
        if _is_events(job):
            text = orjson.dumps({"error": text_of(error)}).decode()
            yield _part(job, _event(text, name="error"))
        job.fail(error)
        assert job.reply is not None
        yield job.reply
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()


def _pieces(
    job: Job, stream: Iterator[object], is_cancelled: Callable[[int], bool]
) -> Iterator[Frame]:
    try:
        first = next(stream)
    except StopIteration:
        job.succeed(job.context.reply_content_type or job.accept, b"")
        assert job.reply is not None
        yield job.reply
        return
    encode, content_type = _encoder(job, first)
    meta: dict[str, Any] = job.head(job.context.reply_content_type or content_type)
    for index, piece in enumerate(_cut(encode(first))):
        yield _part(job, piece, meta if index == 0 else None)
    for item in stream:
        if is_cancelled(job.frame.id):
            break
        for piece in _cut(encode(item)):
            yield _part(job, piece)
    yield Frame(Kind.REPLY, job.frame.id)


def _part(job: Job, data: bytes, meta: dict[str, Any] | None = None) -> Frame:
    return Frame(Kind.PART, job.frame.id, meta or {}, Body(data))


def _cut(data: bytes) -> Iterator[bytes]:
    """Parts are never files: they are small, or made so."""
    for start in range(0, max(1, len(data)), INLINE):
        yield data[start : start + INLINE]


def _is_events(job: Job) -> bool:
    return job.accept == media.EVENT_STREAM


def _encoder(job: Job, first: object) -> tuple[Callable[[object], bytes], str]:
    """How items are written, which the first one decides."""
    if _is_events(job):
        return (lambda item: _event(_text(item))), media.EVENT_STREAM
    if isinstance(first, str):
        return (lambda item: _text(item).encode()), TEXT
    if isinstance(first, bytes | bytearray | memoryview):
        return _bytes, media.OCTETS
    return (lambda item: codecs.encode_json(defaults.plain(item)) + b"\n"), media.JSON_LINES


def _bytes(item: object) -> bytes:
    if not isinstance(item, bytes | bytearray | memoryview):
        raise TypeError(f"the stream began with bytes and goes on with {type(item).__name__}")
    return bytes(item)


def _text(item: object) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item).decode()
    return codecs.encode_json(defaults.plain(item)).decode()


def _event(text: str, name: str = "") -> bytes:
    """One server-sent event; a text of several lines has several data fields."""
    head = f"event: {name}\n" if name else ""
    data = "".join(f"data: {line}\n" for line in text.split("\n"))
    return f"{head}{data}\n".encode()
