"""gunicorn's native ASGI worker, less three ways in which clients are kept waiting for nothing."""

from __future__ import annotations

import asyncio
import os
import select
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers.gasgi import ASGIWorker

from sagemaker_byoc.serving import limits
from sagemaker_byoc.serving.front.gunicorn.connection import FrontProtocol
from sagemaker_byoc.serving.front.http.base import BaseFront

HEARTBEAT = 1.0
BACKLOG = 2048


class FrontWorker(ASGIWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serves one application that must be opened and closed on the event loop."""

    asgi: BaseFront

    def init_process(self) -> None:
        # gunicorn notes on the class that asks whether its parser in C is there, and then looks on
        # the base class: asked by a subclass first, it would take the parser in Python.
        ASGIProtocol._check_h1c_protocol_available()  # noqa: SLF001
        self.connections: set[FrontProtocol] = set()
        self.stopping = asyncio.Event()
        self._most_connections = limits.connections()
        super().init_process()

    def make_room(self) -> None:
        """Close the connection that was idle for longest if there are too many for one more."""
        if len(self.connections) >= self._most_connections:
            spare = [connection for connection in self.connections if connection.is_spare]
            if spare:
                min(spare, key=lambda connection: connection.last_used).close_if_idle()

    def handle_exit_signal(self) -> None:
        """Wake up now; gunicorn looks once a second."""
        super().handle_exit_signal()
        self.stopping.set()

    def handle_quit_signal(self) -> None:
        super().handle_quit_signal()
        self.stopping.set()

    async def _serve(self) -> None:
        self.asgi.open()
        for listener in self.sockets:
            server = await self.loop.create_server(
                lambda: FrontProtocol(self), sock=listener.sock, backlog=BACKLOG
            )
            self.servers.append(server)
        while self.alive and self.ppid == os.getppid():
            self.notify()
            try:
                await asyncio.wait_for(self.stopping.wait(), HEARTBEAT)
            except TimeoutError:
                continue
        await self._drain()
        self.asgi.close()

    async def _drain(self) -> None:
        """Refuse connections, close those that are idle, finish the others.

        gunicorn waits for idle ones too, which is for as long as it may.
        """
        self.alive = False
        while any(_has_connection(listener) for listener in self.sockets):
            await asyncio.sleep(0)  # it was established before we stopped
        for server in self.servers:
            server.close()
        drain = self.loop.create_task(self.asgi.drain())
        until = self.loop.time() + self.cfg.graceful_timeout
        while self.connections and self.loop.time() < until and not self._quick_shutdown:
            for connection in list(self.connections):
                connection.close_if_idle()
            await asyncio.sleep(0.02)
        drain.cancel()


def _has_connection(listener: Any) -> bool:
    return bool(select.select([listener], [], [], 0)[0])
