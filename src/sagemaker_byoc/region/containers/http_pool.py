"""Kept-alive HTTP/1.1 connections to a container: one exchange at a time, every part bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import cast

import httptools

from sagemaker_byoc.region.containers.http_reply import (
    BodyError,
    BrokenError,
    BusyError,
    MalformedError,
    OverdueError,
    Reply,
    UnreachableError,
    UpstreamError,
)

HEAD_LIMIT = 64 * 2**10
"""Bytes before the end of the headers, those of interim answers included."""
_TOGETHER = 64 * 2**10
"""A body up to this size is sent in one write with its head."""
_BODILESS = frozenset({204, 304})
CONNECTIONS = 512
"""Most connections to one container; a real endpoint refuses long before."""
CONNECT_SECONDS = 2.0
"""The contract says 0.25 s; a laptop under load needs more, which is not the image's fault."""


class Connection(asyncio.Protocol):
    """One connection. `on_free` is called when an answer is complete and the server keeps the
    connection open, `on_lost` when the connection has ended.
    """

    def __init__(
        self, on_free: Callable[[Connection], None], on_lost: Callable[[Connection], None]
    ) -> None:
        self._on_free = on_free
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._in_head = True
        self._until_end = False
        self._expects_body = True
        self._paused = False
        self._upload: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.touched = False
        """Whether any byte of the current answer has arrived."""
        self.lost = False

    # ── for the pool ──

    def send(self, head: bytes, body: bytes, *, timeout: float, expects_body: bool = True) -> Reply:
        """Start an exchange; its answer must be complete in `timeout` seconds."""
        assert self._transport is not None
        assert self._reply is None
        reply = self._reply = Reply(self)
        self.touched = False
        self._head_bytes = 0
        self._in_head = True
        self._expects_body = expects_body
        self._timer = asyncio.get_running_loop().call_later(timeout, self._overdue, timeout)
        if len(body) <= _TOGETHER:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return reply

    def upload(self, body: AsyncIterable[bytes]) -> None:
        """Send the body of the request whose head was sent, in chunks, while its answer arrives.

        An error of `body` ends the exchange with a BodyError.
        """
        self._upload = asyncio.create_task(self._send_chunks(body), name="upload")

    async def _send_chunks(self, body: AsyncIterable[bytes]) -> None:
        assert self._transport is not None
        try:
            async for chunk in body:
                if chunk:
                    self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                    await self._writable.wait()
            self._transport.write(b"0\r\n\r\n")
        except Exception as error:  # noqa: BLE001 - the reader of the answer gets it
            self._upload = None  # this task, which need not be cancelled
            self._end(BodyError(error))

    def close(self) -> None:
        """End the connection; an exchange under way fails."""
        self._end(BrokenError("the connection was closed"))

    # ── for the reader of the answer ──

    def pause(self) -> None:
        if not self._paused and self._transport is not None and not self.lost:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None and not self.lost:
            self._paused = False
            self._transport.resume_reading()

    def abandon(self) -> None:
        self._end(BrokenError("the answer was given up"))

    # ── asyncio.Protocol ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every event loop's transports derive from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._reply is None:  # no request is under way
            self._end(MalformedError("bytes came that no request had asked for"))
            return
        self.touched = True
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end(MalformedError("the container wants another protocol"))
        except httptools.HttpParserError as error:
            self._end(MalformedError(f"the answer is not HTTP: {error}"))
        else:
            if self._waits_for_head() and self._head_bytes > HEAD_LIMIT:
                self._end(MalformedError(f"the answer's headers are over {HEAD_LIMIT} bytes"))

    def eof_received(self) -> bool:
        if self._reply is None:
            self.lost = True
        elif self._until_end and not self._in_head:
            self._finish(reusable=False)
        return False

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._writable.set()
        if self._reply is not None:
            cause = f" ({error})" if error is not None else ""
            self._fail(BrokenError(f"the connection ended before the answer did{cause}"))
        self._on_lost(self)

    def _waits_for_head(self) -> bool:
        return self._reply is not None and self._in_head

    # ── httptools ──

    def on_message_begin(self) -> None:
        self._headers = []
        if self._reply is None:
            self._end(MalformedError("a second answer came to one request"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._reply is None or status < 200:
            return
        self._in_head = False
        names = {name for name, _ in self._headers}
        self._until_end = (
            status not in _BODILESS
            and b"content-length" not in names
            and b"transfer-encoding" not in names
        )
        self._reply.headers = self._headers
        self._reply.begin(status)
        if not self._expects_body:
            # The parser does not know the request, and would wait for the announced body.
            self._finish(reusable=False)

    def on_body(self, data: bytes) -> None:
        if self._reply is not None:
            self._reply.extend(data)

    def on_message_complete(self) -> None:
        if not self._in_head:
            self._finish(reusable=self._parser.should_keep_alive())

    # ── ends ──

    def _finish(self, *, reusable: bool) -> None:
        if self._upload is not None and not self._upload.done():
            reusable = False  # the answer came before the end of the request
        reply = self._release()
        if reply is None:
            return
        reply.finish()
        self._in_head = True
        if reusable and not self.lost:
            self.resume()
            self._on_free(self)
        elif self._transport is not None:
            self._transport.close()

    def _overdue(self, seconds: float) -> None:
        self._end(OverdueError(f"no whole answer in {seconds:.0f} s"))

    def _end(self, error: UpstreamError) -> None:
        self.lost = True
        self._fail(error)
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: UpstreamError) -> None:
        reply = self._release()
        if reply is not None:
            reply.fail(error)

    def _release(self) -> Reply | None:
        reply, self._reply = self._reply, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._upload is not None:
            self._upload.cancel()
            self._upload = None
        return reply


class Pool:
    """Requests to one address. Made and used on one event loop."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, limit: int = CONNECTIONS) -> None:
        self.port = port
        self._host = host
        self._limit = limit
        self._free: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening = 0
        self._closed = False

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._open)

    async def request(
        self, head: bytes, body: bytes = b"", *, timeout: float, expects_body: bool = True
    ) -> Reply:
        """Send a request and return its answer, once its head has arrived.

        The whole answer must arrive within `timeout` seconds. The request is sent a second time
        only if a kept connection was closed before any byte of the answer, as a server may do at
        any time between two requests. Raise UpstreamError.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        connection = self._kept()
        kept = connection is not None
        while True:
            if connection is None:
                connection = await self._connect(min(timeout, CONNECT_SECONDS))
            left = deadline - loop.time()
            if left <= 0:
                connection.close()
                raise OverdueError(f"no whole answer in {timeout:.0f} s")
            reply = connection.send(head, body, timeout=left, expects_body=expects_body)
            try:
                await reply.head()
            except BrokenError:
                if not kept or connection.touched:
                    raise
                connection, kept = None, False
            except asyncio.CancelledError:
                reply.close()
                raise
            else:
                return reply

    async def stream(self, head: bytes, body: AsyncIterable[bytes], *, timeout: float) -> Reply:
        """Send a request with a chunked body, which is read once, and return its answer.

        The answer may begin before the body has ended. Raise UpstreamError; an error of `body`
        is in a BodyError.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        # Not a kept one: the server may have closed it, and the body can't be sent again.
        connection = await self._connect(min(timeout, CONNECT_SECONDS))
        reply = connection.send(head, b"", timeout=max(0.0, deadline - loop.time()))
        connection.upload(body)
        try:
            await reply.head()
        except asyncio.CancelledError:
            reply.close()
            raise
        return reply

    def close(self) -> None:
        """End all connections; requests under way fail, later ones are refused."""
        self._closed = True
        for connection in [*self._open]:
            connection.close()
        self._free.clear()

    def _kept(self) -> Connection | None:
        # The one used last: the server is least likely to have closed it.
        while self._free:
            connection = self._free.pop()
            if not connection.lost:
                return connection
        return None

    async def _connect(self, timeout: float) -> Connection:
        if self._closed:
            raise UnreachableError("the container is being stopped")
        if len(self._open) + self._opening >= self._limit:
            raise BusyError(f"{self._limit} requests are under way already")
        loop = asyncio.get_running_loop()
        self._opening += 1
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._on_free, self._on_lost), self._host, self.port
                )
        except (OSError, TimeoutError) as error:
            raise UnreachableError(f"no connection to port {self.port}: {error}") from error
        finally:
            self._opening -= 1
        if connection.lost:
            raise BrokenError("the connection ended before a request could be sent")
        self._open.add(connection)
        return connection

    def _on_free(self, connection: Connection) -> None:
        if self._closed:
            connection.close()
        else:
            self._free.append(connection)

    def _on_lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
