"""Frames of `application/vnd.amazon.eventstream`, as InvokeEndpointWithResponseStream answers.

total length, length of the headers, CRC32 of these 8 bytes      u32 each, big endian
headers: length of the name (u8), name, type 7, length (u16), text
payload
CRC32 of all before
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping

_TEXT = 7
_OVERHEAD = 16
PART_LIMIT = 2**20
"""Bytes of a frame's payload."""


def part(payload: bytes) -> bytes:
    """One PayloadPart, whose bytes are the container's own."""
    return _frame(_PART_HEADERS, payload)


def exception(kind: str, message: str, code: str) -> bytes:
    """The end of a stream that went wrong: ModelStreamError, InternalStreamFailure."""
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
