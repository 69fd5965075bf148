"""One HTTP connection: gunicorn's, with a shorter way for small requests to the model.

gunicorn runs two tasks and a future for every request. For a request to /invocations whose body has
arrived with its headers, and whose answer is one write, none of that is needed: the request goes to
the broker from the callback that received it, and the broker's callback writes the answer. All else
(large or chunked bodies, streams, other routes) takes gunicorn's way.

It rests on names that gunicorn keeps to itself; its version is pinned, and the tests run both ways.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving.front.invocation import Unsent
from sagemaker_byoc.serving.front.replies import Answer
from sagemaker_byoc.serving.front.tickets import Ticket


class FrontProtocol(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    """Known to its worker; at most one request at a time, as HTTP/1.1 has it."""

    _request_ready: Any
    _current_request: Any
    _body_receiver: Any
    _response_buffer: Any

    _is_new = False
    """Headers are complete, and nobody has begun with the request."""
    _is_direct = False
    """A request is under way the shorter way."""
    _ticket: Ticket | None = None
    _last_used = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.worker.connections.add(self)
        self._arm_keepalive_timer()  # gunicorn lets half a first request stay for ever

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.connections.discard(self)
        ticket, self._ticket = self._ticket, None
        unsent = self.app.handed_over.pop(self._body_receiver, None)
        super().connection_lost(exc)
        if ticket is not None:
            self.app.broker.abandon(ticket)
        if unsent is not None:
            self.app.invocations.drop(unsent)

    def close_if_idle(self) -> None:
        if self._awaiting_request and self._current_request is None:
            self._close_now()

    def _close_now(self) -> None:
        self._close_transport()
        self._request_ready.set()  # its task sees the end

    def _keepalive_timeout(self) -> None:
        """The shorter way sets no timer for each request: what was used lately stays."""
        left = self._last_used + self._keepalive - self.worker.loop.time()
        if self._is_direct or left > 0:
            delay = max(left, 1.0)
            self._keepalive_handle = self.worker.loop.call_later(delay, self._keepalive_timeout)
        else:
            super()._keepalive_timeout()

    # ── a request arrives ──

    def _on_headers_complete(self) -> bool:
        """Let nobody begin yet: the rest of what was received may complete the request."""
        ready, self._request_ready = self._request_ready, None
        try:
            return bool(super()._on_headers_complete())
        finally:
            self._request_ready = ready
            self._is_new = True

    def _feed_callback_parser(self, data: bytes) -> bool:
        is_open = bool(super()._feed_callback_parser(data))
        if self._is_new:
            self._is_new = False
            if is_open and self._may_be_direct():
                self._begin()
            else:
                self._request_ready.set()
        return is_open

    def _may_be_direct(self) -> bool:
        request, receiver = self._current_request, self._body_receiver
        return (
            self._awaiting_request  # else gunicorn's task is at work on this connection
            and not self._is_direct
            and not self._finishing_calls
            and request is not None
            and request.path == http.INVOCATIONS.value
            and request.method == "POST"
            and receiver._complete  # noqa: SLF001 - see the module's text
            and receiver.buffered <= self.app.direct
            and not self.app.broker.app_routes  # the user's application wants all of the request
        )

    def _begin(self) -> None:
        self._is_direct = True
        receiver = self._body_receiver
        data = b"".join(receiver._chunks)  # noqa: SLF001
        receiver._chunks.clear()  # noqa: SLF001
        receiver._buffered = 0  # noqa: SLF001
        ticket = self.app.invocations.start(self._current_request.headers_bytes, data, self)
        if self._is_direct:
            self._ticket = ticket

    # ── and is answered ──

    def reply(self, answer: Answer) -> None:
        """The whole answer in one write; then the connection is as if new."""
        self._ticket = None
        if self._closed:
            return
        request = self._current_request
        closes = self._will_close(request, False)  # noqa: FBT003 - gunicorn's signature
        answer.headers.append((b"Content-Length", b"%d" % len(answer.data)))
        self._send_response_start(answer.status, answer.headers, request, close=closes)
        head, self._response_buffer = self._response_buffer, None
        self._safe_write(head + answer.data)
        self.worker.nr += 1
        if closes or getattr(self._callback_parser, "remaining_truncated", False):
            self._is_direct = False
            self._close_now()
        else:
            self._next()

    def _next(self) -> None:
        """What gunicorn's task does between two requests."""
        self._resume_reading()
        pipelined = self._callback_parser.remaining()
        self._callback_parser.reset()
        self._current_request = self._body_receiver = None
        self._last_used = self.worker.loop.time()
        if pipelined:
            self._feed_callback_parser(pipelined)  # gunicorn's way, so that none nests in another
        self._is_direct = False

    def hand_over(self, unsent: Unsent) -> None:
        """Wake gunicorn's task, which runs the application, which finds what to send."""
        self._ticket, self._is_direct = None, False
        if self._closed:
            self.app.invocations.drop(unsent)
            return
        self._body_receiver._body_finished = True  # noqa: SLF001 - its body was taken
        self.app.handed_over[self._body_receiver] = unsent
        self._request_ready.set()
