"""Reading a request: its headers, then its body, decoded, to its end or to a limit."""

from __future__ import annotations

import asyncio
import math
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import orjson

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving.bodies import Body, Collector
from sagemaker_byoc.serving.error_replies import (
    BadInput,
    PayloadTooLarge,
    Refusal,
    SlowUpload,
    Unavailable,
    UnsupportedCoding,
)
from sagemaker_byoc.serving.front.broker.admission import Permit

SAGEMAKER = b"x-amzn-sagemaker-"
INFERENCE_ID = http.INFERENCE_ID.value.lower()


@dataclass(slots=True)
class Call:
    """A request as the log describes it, known from its start."""

    request_id: str
    began: float
    inference_id: str = ""
    model: str = ""
    """The model's name, on a multi-model endpoint."""
    bytes_in: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """What the server reads from a request's headers."""

    content_type: str
    accept: str
    platform: dict[str, str]
    """The platform's headers, the only ones passed on to the worker: it strips all others."""
    length: int | None
    """None for a chunked body."""
    expects: bool
    """The client waits for 100 (Continue) before it sends the body."""
    codings: tuple[str, ...]
    """Codings in its Content-Encoding, in order."""

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> Self:
        """Read headers whose names are in lower case."""
        found: dict[bytes, bytes] = {}
        platform: dict[str, str] = {}
        for name, value in headers:
            if name == b"content-encoding" and name in found:
                value = found[name] + b"," + value  # noqa: PLW2901 - lines of one list
            if name.startswith(SAGEMAKER):
                platform[name.decode("latin-1")] = value.decode("latin-1")
            else:
                found[name] = value
        chunked = b"transfer-encoding" in found
        encoding = found.get(b"content-encoding")
        return cls(
            found.get(b"content-type", b"").decode("latin-1"),
            found.get(b"accept", b"").decode("latin-1"),
            platform,
            None if chunked else int(found.get(b"content-length", b"0")),
            b"expect" in found,
            () if encoding is None else tuple(names_of(encoding.decode("latin-1"))),
        )

    def meta_of(self, call: Call) -> dict[str, Any]:
        """Return the request's metadata for the worker; describe the caller's id in `call`."""
        meta: dict[str, Any] = {
            "content_type": self.content_type,
            "accept": self.accept,
            "request_id": call.request_id,
        }
        if self.platform:
            meta["headers"] = dict(self.platform)
            call.inference_id = self.platform.get(INFERENCE_ID, "")
        return meta


Receive: TypeAlias = "Callable[[], Awaitable[dict[str, Any]]]"

PAUSE = 20.0
"""Seconds that a client may pause while it sends a body."""
LEAST_RATE = 500
"""Average bytes per second below which a body is refused, once PAUSE has passed."""
SMALL = 16 * 1024
"""Largest document of a management request, in bytes."""
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
    """Return the whole body. `length` is the Content-Length, None for a chunked body; `codings` are
    those of its Content-Encoding.

    `permit` counts the bytes that have arrived, not those announced: a slow client holds little.
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
    """Return the whole body of a management request."""
    body: bytes = b""
    until = time.monotonic() + PAUSE
    while True:
        message = await _next(receive, len(body), math.inf, until)
        body += message["body"]
        if len(body) > limit:
            raise PayloadTooLarge(f"The limit of this route is {limit} bytes")
        if not message.get("more_body"):
            return body


async def read_object(receive: Receive) -> dict[str, Any]:
    """Return the JSON object that is the body of a management request; an empty body is {}."""
    body = await read_small(receive, SMALL)
    try:
        found = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise BadInput(f"The body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadInput("The body is not a JSON object")
    return found


def resolved_below(root: Path, path: Path, shown: str, missing: type[Refusal]) -> Path:
    """Return a path after following links. Raise BadInput if it is not below `root`, `missing` if
    it does not exist; `shown` describes it in their messages."""
    root = root.resolve()
    try:
        found = path.resolve()
        exists = found.exists()
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: links in a circle, to 3.12
        raise BadInput(f"{shown} is not a path: {error}") from None
    if root not in found.parents:
        raise BadInput(f"{shown} is not below {root}")
    if not exists:
        raise missing(f"{shown} does not exist")
    return found


_NOTHING: dict[str, Any] = {"body": b"", "more_body": False}


class _Gathering:
    """The pieces of a body, decoded and checked against the limits."""

    def __init__(self, limit: int | None, permit: Permit, decoders: Decoders | None) -> None:
        self._limit = limit
        self._permit = permit
        self._decoders = decoders
        self._collector = Collector()
        self.received = 0
        """Bytes received, before decoding."""

    async def add(self, data: bytes) -> None:
        self.received += len(data)
        _check(self.received, self._limit)
        if self._decoders is None:
            self._keep(data)
            return
        for piece in self._decoders.feed(data):
            self._keep(piece)
            await asyncio.sleep(0)  # a few bytes can be many steps: other tasks run between them

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
    """Turn a failure to store a large body into a refusal: no descriptor or no memory was left."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"The body can't be stored: {error.strerror}") from error


async def _next(receive: Receive, size: int, began: float, deadline: float) -> dict[str, Any]:
    """Return the next piece; raise SlowUpload after a pause, below LEAST_RATE or too late."""
    now = time.monotonic()
    timeout = min(PAUSE, deadline - now, began + PAUSE + size / LEAST_RATE - now)
    if timeout <= 0:
        raise _too_slow(size)
    try:
        async with asyncio.timeout(timeout):
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


async def drain(receive: Receive, limit: int | None, timeout: float = DRAIN_TIME) -> None:
    """Read the rest of a body for a while and drop it.

    A client that is still sending when the connection closes sees a broken pipe instead of the
    answer; so let it finish, up to twice the limit.
    """
    spare = 2 * (limit or 0) + DRAIN_SPARE
    try:
        async with asyncio.timeout(timeout):
            while spare > 0:
                message = await receive()
                if not message.get("more_body"):
                    return
                spare -= len(message["body"])
    except TimeoutError:
        return  # too slow to be waited for


ACCEPTED = "gzip, deflate, identity"
"""The codings that the Accept-Encoding header of a refusal lists."""
CODINGS = 3
"""Codings that may be applied to one body."""
PIECE = 256 * 1024
"""Bytes that one decoding step yields; other tasks run between two steps."""
MEMBERS = 10_000
"""Members of one gzip body: empty ones cost time and have no bytes. bgzip makes one per 64 KB."""
GZIP, ZLIB, RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_WINDOWS = {"gzip": GZIP, "x-gzip": GZIP, "deflate": ZLIB}


def names_of(header: str) -> list[str]:
    """Return the codings of a Content-Encoding without those that change nothing."""
    names = (name.strip().lower() for name in header.split(","))
    return [name for name in names if name not in {"", "identity"}]


class Decoder:
    """The decoder of one coding."""

    def __init__(self, name: str, limit: int | None) -> None:
        self._name = name
        self._window = _WINDOWS[name]
        self._limit = limit
        self._size = 0
        self._inflate = zlib.decompressobj(self._window)
        self._is_new = True
        self._members = 1

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to, at most PIECE bytes at a time; also empty pieces."""
        while data:
            if self._inflate.eof and not self._next_member(data):
                return
            piece = self._step(data)
            self._is_new = False
            self._size += len(piece)
            if self._limit is not None and self._size > self._limit:
                raise PayloadTooLarge(
                    f"The body has {self._size} bytes or more once its {self._name} is decoded; "
                    f"the limit is {self._limit} (SAGEMAKER_MAX_PAYLOAD_IN_MB)"
                )
            data = self._inflate.unused_data or self._inflate.unconsumed_tail
            yield piece

    def _step(self, data: bytes) -> bytes:
        try:
            return self._inflate.decompress(data, PIECE)
        except zlib.error as error:
            if not (self._is_new and self._window == ZLIB):
                raise BadInput(f"The body is not valid {self._name}: {error}") from None
        # Clients that take "deflate" to mean the format without zlib's header are old but known.
        self._window = RAW
        self._inflate = zlib.decompressobj(RAW)
        self._is_new = False
        return self._step(data)

    def _next_member(self, data: bytes) -> bool:
        """Start the next member of a gzip file; return False if only padding follows."""
        if not data.strip(b"\0"):
            return False
        if self._window != GZIP:
            raise BadInput(f"Bytes follow the end of the body's {self._name}")
        self._members += 1
        if self._members > MEMBERS:
            raise BadInput(f"The body's {self._name} has more than {MEMBERS} members")
        self._inflate = zlib.decompressobj(GZIP)
        return True

    def end(self) -> None:
        """Raise BadInput if the last member is not complete."""
        if not self._inflate.eof:
            raise BadInput(f"The body's {self._name} ends before its last byte")


class Decoders:
    """The decoders of one body, the last applied coding first."""

    def __init__(self, names: Sequence[str], limit: int | None) -> None:
        unknown = [name for name in names if name not in _WINDOWS]
        if unknown:
            raise UnsupportedCoding(
                f"Content-Encoding {unknown[0][:50]!r} is not supported; send {ACCEPTED}"
            )
        if len(names) > CODINGS:
            raise UnsupportedCoding(f"The body has {len(names)} codings; the limit is {CODINGS}")
        self._decoders = [Decoder(name, limit) for name in reversed(names)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        return self._feed(self._decoders, data)

    def _feed(self, decoders: Sequence[Decoder], data: bytes) -> Iterator[bytes]:
        first, *rest = decoders
        for piece in first.feed(data):
            if rest:
                yield from self._feed(rest, piece)
            else:
                yield piece

    def end(self) -> None:
        for decoder in self._decoders:
            decoder.end()
