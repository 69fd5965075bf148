"""Reading a request's body to its end or to a limit."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from sagemaker_byoc.serving.bodies import Body, Collector
from sagemaker_byoc.serving.errors import BadInput, PayloadTooLarge, SlowUpload, Unavailable
from sagemaker_byoc.serving.front.broker.admission import Permit
from sagemaker_byoc.serving.front.http.coding import Decoders

Receive: TypeAlias = "Callable[[], Awaitable[dict[str, Any]]]"

PAUSE = 20.0
"""Seconds that a client may pause while it sends a body."""
LEAST_RATE = 500
"""Bytes a second that a body must have arrived with, on average, once PAUSE has passed."""
DRAIN_TIME = 5.0
DRAIN_SPARE = 8 * 2**20


async def read_body(  # noqa: PLR0913 - all by name
    receive: Receive,
    *,
    length: int | None,
    limit: int | None,
    deadline: float,
    permit: Permit,
    codings: Sequence[str] = (),
) -> Body:
    """Return the whole body. `length` is the Content-Length, None for a chunked body; `codings`
    are those of its Content-Encoding.

    `permit` counts the bytes that are here, not those announced: a slow client holds little.
    """
    if length is not None:
        _check(length, limit)
    decoders = Decoders(codings, limit) if codings else None
    began = time.monotonic()
    message = await _next(receive, 0, began, deadline) if length != 0 else _NOTHING
    if not message.get("more_body") and decoders is None:
        _check(len(message["body"]), limit)
        permit.hold(len(message["body"]))
        with _no_memory_is_refused():
            return _whole(Body.of(message["body"]), len(message["body"]), length)
    gathering = _Gathering(limit, permit, decoders)
    while True:
        await gathering.add(message["body"])
        if not message.get("more_body"):
            return _whole(gathering.body(), gathering.received, length)
        message = await _next(receive, gathering.received, began, deadline)


async def read_small(receive: Receive, limit: int) -> bytes:
    """Return the whole body of a request that manages something."""
    body: bytes = b""
    until = time.monotonic() + PAUSE
    while True:
        message = await _next(receive, len(body), math.inf, until)
        body += message["body"]
        if len(body) > limit:
            raise PayloadTooLarge(f"The limit of this route is {limit} bytes")
        if not message.get("more_body"):
            return body


_NOTHING: dict[str, Any] = {"body": b"", "more_body": False}


class _Gathering:
    """The pieces of a body, decoded and within the limits."""

    def __init__(self, limit: int | None, permit: Permit, decoders: Decoders | None) -> None:
        self._limit = limit
        self._permit = permit
        self._decoders = decoders
        self._collector = Collector()
        self.received = 0
        """Bytes as they were sent."""

    async def add(self, data: bytes) -> None:
        self.received += len(data)
        _check(self.received, self._limit)
        if self._decoders is None:
            self._keep(data)
            return
        for piece in self._decoders.feed(data):
            self._keep(piece)
            await asyncio.sleep(0)  # a few bytes can be many steps: the others have their turn

    def _keep(self, piece: bytes) -> None:
        self._permit.hold(self._collector.size + len(piece))
        with _no_memory_is_refused():
            self._collector.add(piece)

    def body(self) -> Body:
        if self._decoders is not None and self.received:
            self._decoders.end()
        return self._collector.body()


@contextmanager
def _no_memory_is_refused() -> Iterator[None]:
    """Turn the failure to keep a large body into a refusal: no descriptor, or no memory."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"The body can't be kept: {error.strerror}") from error


async def _next(receive: Receive, size: int, began: float, deadline: float) -> dict[str, Any]:
    """Return the next piece; raise SlowUpload after a pause, below LEAST_RATE or too late."""
    now = time.monotonic()
    patience = min(PAUSE, deadline - now, began + PAUSE + size / LEAST_RATE - now)
    if patience <= 0:
        raise _too_slow(size)
    try:
        async with asyncio.timeout(patience):
            return await _piece(receive, size)
    except TimeoutError as error:
        raise _too_slow(size) from error


async def _piece(receive: Receive, size: int) -> dict[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _too_slow(size)  # had the client really gone, this task would have been cancelled
    return message


def _too_slow(size: int) -> SlowUpload:
    return SlowUpload(f"The body stopped arriving, or arrives too slowly, after {size} bytes")


def _whole(body: Body, received: int, length: int | None) -> Body:
    if length is not None and received < length:
        raise BadInput(f"The body ended after {received} of {length} bytes")
    return body


def _check(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise PayloadTooLarge(
            f"The body has {size} bytes or more; the limit is {limit} (SAGEMAKER_MAX_PAYLOAD_IN_MB)"
        )


async def drain(receive: Receive, limit: int | None, patience: float = DRAIN_TIME) -> None:
    """Read on for a while and forget it.

    A client that is still sending when the connection closes sees a broken pipe and never our
    answer; so let it finish, up to twice the limit.
    """
    spare = 2 * (limit or 0) + DRAIN_SPARE
    try:
        async with asyncio.timeout(patience):
            while spare > 0:
                message = await receive()
                if not message.get("more_body"):
                    return
                spare -= len(message["body"])
    except TimeoutError:
        return  # too slow to be waited for
