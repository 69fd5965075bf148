"""The connections of clients: whole invocations are read and answered here, the rest by uvicorn.

An invocation is small, and so is its answer: the overhead of a general server is as large as
everything else that the region does for it. A connection whose client sends something else, or an
invocation in an unusual form, is handed to uvicorn, together with what has been read, and stays
there. So this file needs no errors and no streams.
"""

from __future__ import annotations

import asyncio
import logging
import re
from http import HTTPStatus
from typing import Any, Protocol, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from sagemaker_byoc.region.wire.http import BufferedBody, Request, Response, new_request_id

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
_START = b"POST /endpoints/"
_PATH = re.compile(rb"/endpoints/[A-Za-z0-9-]+/invocations")
_UNUSUAL = frozenset({"transfer-encoding", "expect", "upgrade"})
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
        self._read = b""
        """What has been read of the next request."""
        self._begin_request()

    def _begin_request(self) -> None:
        self._read = b""
        self._messages = 0
        self._is_whole = False
        self._is_usual = True
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
        self._require().pause_reading()

    def resume_writing(self) -> None:
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
            and _PATH.fullmatch(self._target) is not None
            and _UNUSUAL.isdisjoint(self._headers)
        )

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._is_whole = True

    # ── requests ──

    def _parse(self, data: bytes) -> None:
        try:
            if self._read.startswith(_START):
                self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._messages = 0
        if self._messages != 1 or not self._is_usual or len(self._read) > LARGEST:
            self._hand_over()
        elif self._is_whole:
            request = Request(
                method="POST",
                target=self._target.decode("ascii"),
                query_string="",
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
            response = await self._answers.answer(request)
        except asyncio.CancelledError:
            if self._require().is_closing():
                raise  # the client has left
            response = ENDING
        finally:
            if self._task is not None:
                self._state.tasks.discard(self._task)
                self._task = None
        transport = self._require()
        try:
            data = render(response, self._state.default_headers)
        except ValueError:
            LOG.exception("%s: %s", request.id, request.path)
            data = render(Response(status=500, body=FAILURE), self._state.default_headers)
        transport.write(data)
        self._state.total_requests += 1
        self._idle_since = self._loop.time()
        if self._is_closing or response.headers.get("Connection") == "close":
            transport.close()
        elif self._read:
            transport.resume_reading()
            self._parse(self._read)

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


def render(response: Response, server_headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of a response whose body is whole."""
    assert isinstance(response.body, bytes)
    headers = {**response.headers, **GUARDS, "content-length": str(len(response.body))}
    lines = [_STATUS[response.status], *[f"{name}: {value}" for name, value in headers.items()]]
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1:
        raise ValueError(f"a header has a line feed: {lines}")
    own = b"".join(b"%s: %s\r\n" % pair for pair in server_headers)
    return b"%s\r\n%s\r\n%s" % (head.encode("latin-1", "replace"), own, response.body)
