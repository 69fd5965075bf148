"""The connections of clients: small requests of two kinds are answered here, the rest by uvicorn.

An invocation is small, and so are most requests to S3: the overhead of a general server is as large
as everything else that the region does for them. A connection whose client sends something else, or
a request that is large or has an unusual form, is handed to uvicorn, together with what has been
read, and stays there. So this file needs no errors and reads no streams.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, Protocol, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from sagemaker_byoc.region.wire.http import (
    CONTROL,
    BufferedBody,
    Request,
    Response,
    new_request_id,
)

LOG = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 120
"""Longer than SDKs leave a pooled connection idle between two polls."""
ENDING = Response(status=503, headers={"Connection": "close"}, body=b"the region is ending\n")
"""SDKs try again after a 503, and then fail to connect."""
FAILURE = b"internal failure; see the region's log\n"
GUARDS = {"content-security-policy": "sandbox", "x-content-type-options": "nosniff"}
"""An object or an answer of type text/html would be a page of the region's own origin."""
LARGEST = 256 * 2**10
"""Bytes of a request; a larger one is handed over, because uvicorn stops reading in time."""
_INVOCATION = re.compile(rb"/endpoints/[A-Za-z0-9-]+/invocations")
_TARGET = re.compile(rb"/[^#]*")
_S3_SCOPE = "/s3/aws4_request"
_S3_METHODS = frozenset({b"DELETE", b"GET", b"HEAD", b"POST", b"PUT"})
_LENGTH = "x-amz-decoded-content-length"
"""S3's length of a body that comes in chunks, as botocore sends every object."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODILESS = frozenset({204, 304})
_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}


class Answers(Protocol):
    async def answer(self, request: Request) -> Response:
        """Return the response, also to a failure."""


class Connection(asyncio.Protocol):
    """One connection. uvicorn's server makes it, and calls `shutdown`."""

    def __init__(self, answers: Answers, *, server_state: ServerState, **options: Any) -> None:
        """`options` are what uvicorn gives to a protocol of its own beside the state."""
        self._answers = answers
        self._state = server_state
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._read = b""
        """What has been read of the next request."""
        self._begin_request()

    def _begin_request(self) -> None:
        self._read = b""
        self._messages = 0
        self._is_whole = False
        self._is_usual = True
        self._expects = False
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body = b""

    # ── asyncio.Protocol ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every event loop's transports derive from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._state.connections.add(self)  # type: ignore[arg-type] # uvicorn calls `shutdown`
        self._idle_since = self._loop.time()
        self._idle = self._loop.call_later(KEEP_ALIVE_SECONDS, self._check_idle)

    def data_received(self, data: bytes) -> None:
        self._read = self._read + data if self._read else data
        self._idle_since = self._loop.time()
        if self._task is not None:  # the client does not wait for its answer
            if len(self._read) > LARGEST:
                self._require().pause_reading()
            return
        self._parse(data)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - of asyncio
        self._is_closing = True
        self._leave()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()
        self._require().pause_reading()

    def resume_writing(self) -> None:
        self._writable.set()
        self._require().resume_reading()

    # ── uvicorn ──

    def shutdown(self) -> None:
        """Close the connection, after the answer that is under way."""
        self._is_closing = True
        if self._task is None:
            self._require().close()

    # ── httptools ──

    def on_message_begin(self) -> None:
        self._messages += 1

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]},{text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        self._is_usual = (
            self._parser.get_http_version() == "1.1"
            and self._parser.should_keep_alive()
            and "upgrade" not in self._headers
            and int(self._headers.get("content-length", "0")) <= LARGEST
            and (self._is_invocation() or self._is_s3())
        )
        self._expects = self._is_usual and "expect" in self._headers

    def _is_invocation(self) -> bool:
        is_post = self._parser.get_method() == b"POST"
        is_plain = "expect" not in self._headers and "transfer-encoding" not in self._headers
        return is_post and is_plain and _INVOCATION.fullmatch(self._target) is not None

    def _is_s3(self) -> bool:
        return (
            _S3_SCOPE in self._headers.get("authorization", "")
            and "x-amz-target" not in self._headers
            and self._headers.get("expect", "100-continue") == "100-continue"
            and self._is_short()
            and self._parser.get_method() in _S3_METHODS
            and _TARGET.fullmatch(self._target) is not None
        )

    def _is_short(self) -> bool:
        coding = self._headers.get("transfer-encoding")
        if coding is None:
            return True
        length = self._headers.get(_LENGTH, "")
        return coding == "chunked" and length.isdecimal() and int(length[:9]) <= LARGEST // 2

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._is_whole = True

    # ── requests ──

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._messages = 0
        if self._messages != 1 or not self._is_usual or len(self._read) > LARGEST:
            self._hand_over()
        elif self._expects and not self._is_whole:  # as botocore does for every object
            self._expects = False
            self._require().write(_CONTINUE)
        elif self._is_whole:
            path, _, query = self._target.decode("latin-1").partition("?")
            request = Request(
                method=self._parser.get_method().decode("ascii"),
                target=path,
                query_string=query,
                headers=self._headers,
                body=BufferedBody(self._body),
                id=new_request_id(),
            )
            self._begin_request()
            self._task = self._loop.create_task(self._respond(request))
            self._state.tasks.add(self._task)

    def _hand_over(self) -> None:
        self._leave()
        transport = self._require()
        uvicorns = HttpToolsProtocol(server_state=self._state, **self._options)
        transport.set_protocol(uvicorns)
        uvicorns.connection_made(transport)
        uvicorns.data_received(self._read)

    async def _respond(self, request: Request) -> None:
        try:
            response = await self._answer(request)
            await self._send(request, response)
        finally:
            if self._task is not None:
                self._state.tasks.discard(self._task)
                self._task = None
        self._state.total_requests += 1
        self._idle_since = self._loop.time()
        if self._is_closing or response.headers.get("Connection") == "close":
            self._require().close()
        elif self._read:
            self._require().resume_reading()
            self._parse(self._read)

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._answers.answer(request)
        except asyncio.CancelledError:
            if self._require().is_closing():
                raise  # the client has left
            return ENDING

    async def _send(self, request: Request, response: Response) -> None:
        transport = self._require()
        try:
            data = render(request.method, response, self._state.default_headers)
        except ValueError:
            LOG.exception("%s: %s", request.id, request.path)
            response = Response(status=500, body=FAILURE)
            data = render(request.method, response, self._state.default_headers)
        transport.write(data)
        if isinstance(response.body, bytes):
            return
        try:
            await self._send_stream(response.body, is_chunked=not _has_length(response))
        except asyncio.CancelledError:
            transport.abort()
            raise
        except Exception:
            # The client has a part of the answer: only the end of the connection tells it.
            LOG.exception("%s: %s %s", request.id, request.method, request.path)
            transport.abort()

    async def _send_stream(self, chunks: AsyncIterator[bytes], *, is_chunked: bool) -> None:
        transport = self._require()
        try:
            async for chunk in chunks:
                if chunk:
                    await self._writable.wait()
                    transport.write(b"%x\r\n%s\r\n" % (len(chunk), chunk) if is_chunked else chunk)
            if is_chunked:
                transport.write(b"0\r\n\r\n")
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def _check_idle(self) -> None:
        since = self._loop.time() if self._task is not None else self._idle_since
        left = since + KEEP_ALIVE_SECONDS - self._loop.time()
        if left > 0:
            self._idle = self._loop.call_later(left, self._check_idle)
        else:
            self._require().close()

    def _leave(self) -> None:
        self._state.connections.discard(self)
        if self._idle is not None:
            self._idle.cancel()

    def _require(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport


def render(method: str, response: Response, server_headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a response, and its body if that is whole."""
    headers = {**response.headers, **GUARDS}
    body = b""
    if not isinstance(response.body, bytes):
        if not _has_length(response):
            headers["transfer-encoding"] = "chunked"
    elif response.status not in _BODILESS:
        if not _has_length(response):
            headers["content-length"] = str(len(response.body))
        body = b"" if method == "HEAD" else response.body
    lines = [_STATUS[response.status], *[f"{name}: {value}" for name, value in headers.items()]]
    if CONTROL.search("".join(lines)):
        raise ValueError(f"a header has a control character: {lines}")
    head = "\r\n".join(lines)
    own = b"".join(b"%s: %s\r\n" % pair for pair in server_headers)
    return b"%s\r\n%s\r\n%s" % (head.encode("latin-1", "replace"), own, body)


def _has_length(response: Response) -> bool:
    return "Content-Length" in response.headers
