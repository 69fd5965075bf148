"""A streamed answer as `application/vnd.amazon.eventstream`, for InvokeEndpointWithResponseStream.

total length, length of the headers, CRC32 of these 8 bytes      u32 each, big endian
headers: length of the name (u8), name, type 7, length (u16), text
payload
CRC32 of all before
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Self

from sagemaker_byoc.region.containers.http_reply import OverdueError, Reply, UpstreamError

_TEXT = 7
_OVERHEAD = 16
PART_LIMIT = 2**20
"""Bytes of a frame's payload."""
FAULT = "ModelStreamError"


def part(payload: bytes) -> bytes:
    """Return the frame of one PayloadPart with bytes of the container."""
    return _frame(_PART_HEADERS, payload)


def exception(kind: str, message: str, code: str) -> bytes:
    """Return the last frame of a failed stream: ModelStreamError, InternalStreamFailure."""
    headers = {
        ":message-type": "exception",
        ":exception-type": kind,
        ":content-type": "application/json",
    }
    return _frame(_headers(headers), json.dumps({"Message": message, "ErrorCode": code}).encode())


def _headers(headers: Mapping[str, str]) -> bytes:
    return b"".join(
        struct.pack("!B", len(name))
        + name.encode()
        + struct.pack("!BH", _TEXT, len(value))
        + value.encode()
        for name, value in headers.items()
    )


def _frame(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack("!II", _OVERHEAD + len(headers) + len(payload), len(headers))
    checked = b"".join((prelude, struct.pack("!I", zlib.crc32(prelude)), headers, payload))
    return checked + struct.pack("!I", zlib.crc32(checked))


_PART_HEADERS = _headers(
    {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
    }
)


class EventStream:
    """The frames. `on_end` is called once, even if the caller leaves before the first frame."""

    def __init__(self, reply: Reply, on_end: Callable[[], None]) -> None:
        self._reply = reply
        self._chunks: AsyncIterator[bytes] = aiter(reply)
        self._on_end: Callable[[], None] | None = on_end
        self._then: Callable[[bool], None] | None = None
        self._failed = False

    def then(self, on_end: Callable[[bool], None]) -> None:
        """Call `on_end` too at the end; it gets whether the stream has failed.

        It must not refer to the stream, which would then not end with its last reader.
        """
        self._then = on_end

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._failed:
            raise StopAsyncIteration
        try:
            return part(await anext(self._chunks))
        except StopAsyncIteration:
            self._end()
            raise
        except OverdueError as error:
            return self._fail("ModelInvocationTimeExceeded", error)
        except UpstreamError as error:
            return self._fail("StreamBroken", error)

    async def aclose(self) -> None:
        self._reply.close()
        self._end()

    def __del__(self) -> None:
        # A server that was cancelled before it asked for the first frame closes nothing.
        self._end()

    def _fail(self, code: str, error: UpstreamError) -> bytes:
        self._failed = True
        self._end()
        text = f"The stream of the model's answer has broken: {error}"
        return exception(FAULT, text, code)

    def _end(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()
            if self._then is not None:
                self._then(self._failed)
