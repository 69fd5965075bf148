"""The region's port: ASGI to Request, Response to ASGI. It does not know the services."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import Any, TypeAlias

import uvicorn

from sagemaker_byoc.region.core.polling import (
    CLIENT,
    FOLLOWER,
    FOLLOWS,
    SDK,
    WAITS,
    is_sdk,
    is_waiter,
)
from sagemaker_byoc.region.wire.connections import (
    ENDING,
    FAILURE,
    GUARDS,
    KEEP_ALIVE_SECONDS,
    Connection,
)
from sagemaker_byoc.region.wire.http import (
    ClientLeftError,
    Handler,
    IncomingBody,
    Receive,
    Request,
    Response,
    new_request_id,
)

Message: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

LOG = logging.getLogger(__name__)

CLOSING_SECONDS = 5
_WATCH_AFTER = 0.05
_BODILESS = frozenset({204, 304})


class Application:
    """An ASGI application over one handler, which must turn its own errors into responses."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope.get("client"):
            # The task of a request has its own context: nothing to reset.
            CLIENT.set("{}:{}".format(*scope["client"]))
        headers = _join(scope["headers"])
        agent = headers.get("user-agent", "")
        WAITS.set(is_waiter(agent))
        SDK.set(is_sdk(agent))
        FOLLOWS.set(FOLLOWER in agent)
        watch = _Watch(receive)
        body = IncomingBody(receive, headers, at_end=watch.begin)
        request = Request(
            method=scope["method"],
            target=scope["raw_path"].decode("latin-1"),
            query_string=scope["query_string"].decode("latin-1"),
            headers=headers,
            body=body,
            id=new_request_id(),
        )
        response: Response | None = None
        try:
            response = await self.answer(request)
            if body.awaits_permission:
                # The client may never send the body that it announced: the next request on this
                # connection would be taken for it.
                response.headers["Connection"] = "close"
            await _respond(response, send)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or (response is not None and not watch.client_left):
                raise
            task.uncancel()
            if not watch.client_left:
                await _respond(ENDING, send)
        except ClientLeftError:
            LOG.debug("%s: the client left during %s %s", request.id, request.method, request.path)
        finally:
            watch.end()

    async def answer(self, request: Request) -> Response:
        """Return the handler's response. Raise ClientLeftError."""
        try:
            return await self._handler(request)
        except ClientLeftError:
            raise
        except Exception:
            LOG.exception("%s: %s %s", request.id, request.method, request.path)
            return Response(status=500, body=FAILURE)


async def _respond(response: Response, send: Send) -> None:
    if isinstance(response.body, bytes):
        await send(_start(response, len(response.body)))
        await send({"type": "http.response.body", "body": response.body})
        return
    await send(_start(response, None))
    await _send_stream(response.body, send)


async def _send_stream(chunks: AsyncIterator[bytes], send: Send) -> None:
    try:
        async for chunk in chunks:
            if chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


def _start(response: Response, length: int | None) -> Message:
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in {**response.headers, **GUARDS}.items()
    ]
    given = any(name == b"content-length" for name, _ in headers)
    if length is not None and not given and response.status not in _BODILESS:
        headers.append((b"content-length", str(length).encode()))
    return {"type": "http.response.start", "status": response.status, "headers": headers}


def _join(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


class _Watch:
    """Cancel the handler when its client has gone; started when the body has been read.

    ASGI reports that a client left only to a task that waits for the next message.
    """

    def __init__(self, receive: Receive) -> None:
        self.client_left = False
        self._receive = receive
        self._handler = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    def begin(self) -> None:
        """Start a timer: most answers are ready before it, and need no second task."""
        if self._timer is None and not self._ended:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_WATCH_AFTER, self._start)

    def end(self) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._ended and self._handler is not None:
            self.client_left = True
            self._handler.cancel()


def listen(port: int, host: str = "127.0.0.1") -> socket.socket:
    """Return a listening socket of this machine; raise OSError if the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener


class RegionServer(uvicorn.Server):
    """A server run by `serve(sockets=[…])` until its `should_exit` is set."""

    on_end: Callable[[], None]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.on_end()
        await super().shutdown(sockets)

    async def open(self, listener: socket.socket) -> asyncio.Server:
        """Answer at `listener` too, until `leave` gets the returned server or this one ends."""

        def make_protocol() -> asyncio.Protocol:
            protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state={}
            )
            return protocol

        server = await asyncio.get_running_loop().create_server(make_protocol, sock=listener)
        self.servers.append(server)
        return server

    def leave(self, server: asyncio.Server) -> None:
        server.close()
        self.servers.remove(server)


def make_server(
    application: Application, on_end: Callable[[], None] = lambda: None
) -> RegionServer:
    """Make a server that calls `on_end` before it waits for the requests under way."""
    server = RegionServer(
        uvicorn.Config(
            application,
            http=partial(Connection, application),  # type: ignore[arg-type] # it makes a protocol
            ws="none",
            lifespan="off",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=CLOSING_SECONDS,
        )
    )
    server.on_end = on_end
    return server
