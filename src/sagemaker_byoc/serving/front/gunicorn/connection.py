"""One HTTP connection: gunicorn's, with a fast path for small requests to the model.

gunicorn runs two tasks and a future for every request. A request to /invocations needs none of them
if its body has arrived with its headers and its answer is one write: the callback that received it
hands it to the broker, and the broker's callback writes the answer. All other requests (large or
chunked bodies, streams, other routes) take gunicorn's path.

A head that has arrived before, byte for byte, is not parsed again.

This relies on private names of gunicorn; its version is pinned, and the tests run both paths.
"""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol, BodyReceiver

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving.front.broker.tickets import Ticket
from sagemaker_byoc.serving.front.gunicorn import parsers
from sagemaker_byoc.serving.front.http.invocation import Unsent
from sagemaker_byoc.serving.front.http.replies import Answer, document
from sagemaker_byoc.serving.front.http.requests import Head

PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"
FIRST_REQUEST = 1.0
"""Seconds that a new connection has for its first request before it may be closed to make room."""
STALL = 30.0
"""Seconds for a client to read what fills the connection's buffer."""
PROBE_AFTER = 0.2
FIRST_LOOK, LAST_LOOK = 0.02, 10.0
"""Seconds until the socket is checked after the probe; doubled from check to check."""
SMALL = 4096
"""Bytes up to which chunks of a body are joined; a chunk of one byte costs as much as a large
one."""
SLICE = 16 * 1024
"""Bytes of a chunked body that are fed to the parser in C at once: for each chunk it moves the
rest."""
UNKNOWN_CODING = "Unsupported Transfer-Encoding"
"""Message of gunicorn's parser in C for an unknown coding, which gunicorn would answer with 400."""


class FrontProtocol(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    """A connection known to its worker; at most one request at a time, as in HTTP/1.1."""

    _request_ready: Any
    _current_request: Any
    _body_receiver: Any
    _response_buffer: Any

    _is_new = False
    """The headers are complete and the request has not been started."""
    _is_plain = True
    """The body has no Content-Encoding."""
    _is_direct = False
    """A request is in flight on the fast path."""
    _has_begun = False
    """Bytes have arrived on this connection."""
    _is_half_closed = False
    """The client sends nothing more but may still read."""
    _is_answering = False
    """The head of a response has been written."""
    _has_answered = False
    _is_pristine = True
    """The parser has received nothing since it was made or reset."""
    _unparsed: bytes | None = None
    """The request in flight, if its head was known and so the parser has not seen it."""
    _is_replaying = False
    _is_write_paused = False
    _stall_timer: asyncio.TimerHandle | None = None
    _refusal = 0
    """Status of the refusal of the current head."""
    _ticket: Ticket | None = None
    last_used = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.last_used = self.worker.loop.time()
        self.worker.make_room()
        self.worker.connections.add(self)
        self._arm_keepalive_timer()  # gunicorn lets half a first request stay forever

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.connections.discard(self)
        self._set_stall_timer(is_needed=False)
        ticket, self._ticket = self._ticket, None
        unsent = self.app.handed_over.pop(self._body_receiver, None)
        super().connection_lost(exc)
        if ticket is not None:
            self.app.broker.abandon(ticket)
        if unsent is not None:
            self.app.invocations.drop(unsent)

    def eof_received(self) -> bool:
        """Keep the connection open if the client, which sends nothing more, can still be answered.

        A client that has left looks the same as one that waits with its sending side closed, until
        something is written to it. So an interim response is written, which every client must skip,
        unless the answer comes first.
        """
        request, receiver = self._current_request, self._body_receiver
        if self._websocket or request is None or receiver is None or not receiver._complete:  # noqa: SLF001
            return False
        if self._is_answering:
            return False  # it has left in the middle of a reply
        self._is_half_closed = True
        if request.version >= (1, 1):
            self.worker.loop.call_later(PROBE_AFTER, self._probe, receiver)
        return True

    def _probe(self, receiver: Any) -> None:
        if self._body_receiver is receiver and not self._is_answering and not self._closed:
            self._safe_write(PROBE)
            self._look_for_client(FIRST_LOOK)

    def _look_for_client(self, delay: float) -> None:
        """Check whether the client rejected the probe; nothing reads from this socket any more."""

        def look() -> None:
            if self._closed or self.transport.is_closing():
                return
            connection = self.transport.get_extra_info("socket")
            if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.transport.abort()
            elif delay < LAST_LOOK:
                self._look_for_client(2 * delay)

        self.worker.loop.call_later(delay, look)

    def _close_if_last(self) -> bool:
        """Close the connection if no further request can become complete on it."""
        receiver = self._body_receiver
        if not self._is_half_closed or (receiver is not None and receiver._complete):  # noqa: SLF001
            return False
        self._close_now()
        return True

    def _arm_keepalive_timer(self) -> None:
        if not self._close_if_last():
            super()._arm_keepalive_timer()

    @property
    def is_idle(self) -> bool:
        """Return whether no request is in flight; a head that is still arriving does not count."""
        return self._awaiting_request and self._current_request is None

    @property
    def is_spare(self) -> bool:
        """Return whether the connection is idle, and not only because its first request is
        arriving."""
        age = self.worker.loop.time() - self.last_used
        return self.is_idle and (self._has_answered or age > FIRST_REQUEST)

    def close_if_idle(self) -> None:
        if self.is_idle:
            self._close_now()

    def _close_now(self) -> None:
        self._close_transport()
        self._request_ready.set()  # wakes its task, which sees the end

    def _keepalive_timeout(self) -> None:
        """Keep a connection that was used lately: the fast path sets no timer for each request."""
        left = self.last_used + self._keepalive - self.worker.loop.time()
        if self._is_direct or left > 0:
            delay = max(left, 1.0)
            self._keepalive_handle = self.worker.loop.call_later(delay, self._keepalive_timeout)
        else:
            super()._keepalive_timeout()

    # ── a client that does not read ──

    def pause_writing(self) -> None:
        """Read no further requests from a client that leaves its replies unread, and close its
        connection after a while."""
        super().pause_writing()
        if not self._websocket:  # a conversation has its own window and deadline
            self._is_write_paused = True
            self._pause_reading()
            self._set_stall_timer(is_needed=True)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_write_paused = False
        self._set_stall_timer(is_needed=False)
        self._resume_reading()

    def _resume_reading(self) -> None:
        # gunicorn calls this after each request, however many more have been received with it.
        if not self._is_write_paused and not self._is_buffer_full():
            super()._resume_reading()

    def _close_transport(self) -> None:
        """Close after sending what is unsent, if the client reads it."""
        if self.transport and not self._closed:
            self._set_stall_timer(is_needed=True)
        super()._close_transport()

    def _set_stall_timer(self, *, is_needed: bool) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        if is_needed and not self._conn_lost_handled:
            self._stall_timer = self.worker.loop.call_later(STALL, self.transport.abort)

    # ── a request arrives ──

    def _on_headers_complete(self) -> bool:
        """Do not start the request yet: the rest of the received data may complete it."""
        if self._is_replaying:
            return False
        ready, self._request_ready = self._request_ready, None
        self._is_answering = False
        try:
            skips_body = bool(super()._on_headers_complete())
            self._is_plain = parsers.check_head(self._current_request)
        except parsers.HeadError as error:
            self._refusal = error.status
            self._current_request = None
            raise
        finally:
            self._request_ready = ready
        self._is_new = True
        return skips_body

    def data_received(self, data: bytes) -> None:
        if self._is_pristine and self._begin_known(data):
            return
        if self._unparsed is not None:
            self._replay()
        if not self._has_begun:
            self._has_begun = True
            if data.startswith(parsers.TLS_HANDSHAKE):  # no parser ever finds the end of its line
                self._send_error_response(400, "TLS, on a port for plain HTTP")
                self._close_now()
                return
        request = self._current_request
        if len(data) <= SLICE or request is None or not request.chunked:
            super().data_received(data)
            return
        for start in range(0, len(data), SLICE):
            if not self.transport.is_closing():
                super().data_received(data[start : start + SLICE])

    def _on_body(self, chunk: bytes) -> None:
        if self._is_replaying:
            return
        receiver = self._body_receiver
        chunks = None if receiver is None else receiver._chunks  # noqa: SLF001
        if chunks and len(chunks[-1]) + len(chunk) <= SMALL:
            chunks[-1] += chunk
            receiver._buffered += len(chunk)  # noqa: SLF001
        else:
            super()._on_body(chunk)

    def _feed_callback_parser(self, data: bytes) -> bool:
        was_pristine, self._is_pristine = self._is_pristine, False
        try:
            is_open = bool(super()._feed_callback_parser(data))
        except ValueError:  # gunicorn's parser in Python, of a number with thousands of digits
            self._send_error_response(400, "Invalid Content-Length value")
            self._close_transport()
            is_open = False
        if self._current_request is not None and self._close_if_last():
            return False  # the rest of it will never come
        if self._is_new:
            self._is_new = False
            if is_open and self._may_be_direct():
                head = Head.of(self._current_request.headers_bytes)
                if was_pristine:
                    parsers.remember(data, self._current_request, head)
                self._begin(head)
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
            and self._is_plain
            and receiver._complete  # noqa: SLF001 - see the module's text
            and receiver.buffered <= self.app.direct
            and not self.app.broker.app_routes  # the user's application wants all of the request
        )

    def _begin(self, head: Head) -> None:
        receiver = self._body_receiver
        data = b"".join(receiver._chunks)  # noqa: SLF001
        receiver._chunks.clear()  # noqa: SLF001
        receiver._buffered = 0  # noqa: SLF001
        self._start(head, data)

    def _start(self, head: Head, data: bytes) -> None:
        self._is_direct = True
        ticket = self.app.invocations.start(head, data, self)
        if self._is_direct:
            self._ticket = ticket

    def _begin_known(self, data: bytes) -> bool:
        """Begin a request that is whole and whose head is known; return whether it is."""
        end = data.find(parsers.END_OF_HEAD) + len(parsers.END_OF_HEAD)
        known = parsers.known_heads.get(data[:end])
        if (
            known is None
            or len(data) - end != known.length
            or known.length > self.app.direct
            or not self._awaiting_request
            or self._finishing_calls
            or self.app.broker.app_routes
        ):
            return False
        self._is_pristine = self._is_answering = False
        self._unparsed = data
        self._current_request = known.request
        self._body_receiver = receiver = BodyReceiver(known.request, self)
        receiver.set_complete()
        self._start(known.head, data[end:])
        return True

    def _replay(self) -> None:
        """Let the parser see the request in flight, so that it knows where the next one begins."""
        data, self._unparsed = self._unparsed, None
        self._is_replaying = True
        self._callback_parser.feed(data)
        self._is_replaying = False

    # ── and is answered ──

    def _send_response_start(self, *args: Any, **options: Any) -> None:
        self._is_answering = self._has_answered = True
        super()._send_response_start(*args, **options)

    def _send_error_response(self, status: int, message: str, extra_headers: Any = ()) -> None:
        """Answer data that is not a request with a document like all other errors."""
        status = self._refusal or (501 if message.startswith(UNKNOWN_CODING) else status)
        code = HTTPStatus(status).phrase.replace(" ", "").replace("-", "")
        if not self._refusal:
            message = f"This is not a valid HTTP request: {message or code}"
        answer = document(status, code, message)
        answer.headers.append((b"Content-Length", b"%d" % len(answer.data)))
        answer.headers.append((b"Connection", b"close"))
        lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
        lines += [name + b": " + value for name, value in answer.headers]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in extra_headers]
        self._safe_write(b"\r\n".join([*lines, b"", answer.data]))

    def reply(self, answer: Answer) -> None:
        """Write the whole answer at once, then reset the connection for the next request."""
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
        """Do what gunicorn's task does between two requests."""
        self._resume_reading()
        pipelined = b""
        if self._unparsed is None:
            pipelined = self._callback_parser.remaining()
            self._callback_parser.reset()
        self._unparsed, self._is_pristine = None, True
        self._current_request = self._body_receiver = None
        self.last_used = self.worker.loop.time()
        if pipelined:
            self._feed_callback_parser(pipelined)  # gunicorn's way, so that none nests in another
        self._is_direct = False
        self._close_if_last()

    def hand_over(self, unsent: Unsent) -> None:
        """Wake gunicorn's task, which runs the application, which sends the outcome."""
        self._ticket, self._is_direct = None, False
        if self._unparsed is not None:
            self._replay()
        if self._closed:
            self.app.invocations.drop(unsent)
            return
        self._body_receiver._body_finished = True  # noqa: SLF001 - its body was taken
        self.app.handed_over[self._body_receiver] = unsent
        self._request_ready.set()
