"""Reading a request's body to its end or to a limit.

Not by Werkzeug's limit: with a chunked body that cuts the rest off silently and reports success.
"""

from __future__ import annotations

import math
import time
from typing import Protocol

from sagemaker_byoc.serving.errors import BadInput, PayloadTooLarge, SlowUpload
from sagemaker_byoc.serving.link import Body, Collector

PIECE = 64 * 1024
DRAIN_TIME = 5.0
DRAIN_SPARE = 8 * 2**20


class Stream(Protocol):
    """wsgi.input, or what stands for it."""

    def read(self, size: int, /) -> bytes: ...


def read_body(
    stream: Stream, *, length: int | None, limit: int | None, deadline: float = math.inf
) -> Body:
    """The whole body. `length` is the Content-Length, None for a chunked body."""
    if limit is not None and length is not None and length > limit:
        drain(stream, limit)
        raise _too_large(limit, f"{length} bytes")
    collector = Collector()
    try:
        while piece := stream.read(PIECE):
            collector.add(piece)
            _check(stream, collector.size, limit, deadline)
    except TimeoutError as error:
        raise SlowUpload(f"The body stopped arriving after {collector.size} bytes") from error
    if length is not None and collector.size < length:
        raise BadInput(f"The body ended after {collector.size} of {length} bytes")
    return collector.body()


def _check(stream: Stream, size: int, limit: int | None, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError
    if limit is not None and size > limit:
        drain(stream, limit)
        raise _too_large(limit, "more")


def drain(stream: Stream, limit: int, patience: float = DRAIN_TIME) -> None:
    """Read on for a while and forget it.

    A client that is still sending when the connection closes sees a broken pipe and never our
    answer; so let it finish, up to twice the limit.
    """
    spare = 2 * limit + DRAIN_SPARE
    until = time.monotonic() + patience
    try:
        while spare > 0 and time.monotonic() < until:
            piece = stream.read(PIECE)
            if not piece:
                return
            spare -= len(piece)
    except OSError:
        return  # the client has given up, or is too slow to be waited for


def _too_large(limit: int, size: str) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The body has {size}; the limit is {limit} bytes (SAGEMAKER_MAX_PAYLOAD_IN_MB)"
    )
