"""Reading a request's body to its end or to a limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from sagemaker_byoc.serving.bodies import Body, Collector
from sagemaker_byoc.serving.errors import BadInput, PayloadTooLarge, SlowUpload
from sagemaker_byoc.serving.front.admission import Permit

Receive: TypeAlias = "Callable[[], Awaitable[dict[str, Any]]]"

PAUSE = 20.0
"""Seconds that a client may pause while it sends a body."""
DRAIN_TIME = 5.0
DRAIN_SPARE = 8 * 2**20


async def read_body(
    receive: Receive, *, length: int | None, limit: int | None, deadline: float, permit: Permit
) -> Body:
    """The whole body. `length` is the Content-Length, None for a chunked body."""
    if length is not None:
        _check(length, limit)
        permit.hold(length)
    # No timer for the first piece, which nearly always is all and has arrived already; the server
    # below us gives up on it after 30 seconds.
    message = await _piece(receive, 0) if length != 0 else _NOTHING
    if not message.get("more_body"):
        return _whole(Body.of(message["body"]), length, permit)
    collector = Collector()
    while True:
        collector.add(message["body"])
        _check(collector.size, limit)
        permit.hold(collector.size)
        if not message.get("more_body"):
            return _whole(collector.body(), length, permit)
        patience = min(PAUSE, deadline - time.monotonic())
        if patience <= 0:
            raise _too_slow(collector.size)
        try:
            async with asyncio.timeout(patience):
                message = await _piece(receive, collector.size)
        except TimeoutError as error:
            raise _too_slow(collector.size) from error


async def read_small(receive: Receive, limit: int) -> bytes:
    """The whole body of a request that manages something."""
    body: bytes = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit:
            raise PayloadTooLarge(f"The limit of this route is {limit} bytes")
        if not message.get("more_body"):
            return body


_NOTHING: dict[str, Any] = {"body": b"", "more_body": False}


async def _piece(receive: Receive, size: int) -> dict[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _too_slow(size)  # had the client really gone, this task would have been cancelled
    return message


def _too_slow(size: int) -> SlowUpload:
    return SlowUpload(f"The body stopped arriving after {size} bytes")


def _whole(body: Body, length: int | None, permit: Permit) -> Body:
    if length is not None and body.size < length:
        raise BadInput(f"The body ended after {body.size} of {length} bytes")
    permit.hold(body.size)
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
