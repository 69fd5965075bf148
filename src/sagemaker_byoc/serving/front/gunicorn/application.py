"""gunicorn's application and ASGI worker, with every setting that this server relies on.

Nothing outside can change the settings: gunicorn's own ways in (its command line,
GUNICORN_CMD_ARGS, a gunicorn.conf.py in the working directory) belong to a subclass of its
Application that is not used here. The worker differs from gunicorn's in three places where that
makes clients wait without need.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections.abc import Mapping
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.workers import base
from gunicorn.workers.gasgi import ASGIWorker

from sagemaker_byoc.serving import open_files
from sagemaker_byoc.serving.front.gunicorn import parsers
from sagemaker_byoc.serving.front.gunicorn.connection import FrontProtocol
from sagemaker_byoc.serving.front.http.front import BaseFront, Front
from sagemaker_byoc.serving.front.http.multi_model import ModelsFront
from sagemaker_byoc.serving.settings import Settings

HEARTBEAT = 1.0
BACKLOG = 2048


class FrontWorker(ASGIWorker):  # type: ignore[misc]  # gunicorn has no types
    """Serve one application that must be opened and closed on the event loop."""

    asgi: BaseFront

    def init_process(self) -> None:
        # gunicorn notes on the class that asks whether its parser in C is there, and then looks on
        # the base class: asked by a subclass first, it would take the parser in Python.
        ASGIProtocol._check_h1c_protocol_available()  # noqa: SLF001
        self.connections: set[FrontProtocol] = set()
        self.stopping = asyncio.Event()
        self._most_connections = open_files.connections()
        super().init_process()

    def make_room(self) -> None:
        """Close the connection that has been idle longest if there are too many for one more."""
        if len(self.connections) >= self._most_connections:
            spare = [connection for connection in self.connections if connection.is_spare]
            if spare:
                min(spare, key=lambda connection: connection.last_used).close_if_idle()

    def handle_exit_signal(self) -> None:
        """Stop now; gunicorn checks once per second."""
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
        """Refuse new connections, close idle ones and finish the others.

        gunicorn would wait for idle ones too, up to its limit.
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


MESSAGE = 16 * 2**20
"""Largest message of a two-way stream, in bytes."""
KEEPALIVE = 75
"""Seconds; longer than clients usually keep idle connections, so that they close first."""


class MemoryHeartbeat:
    """Replacement for gunicorn's temporary file, which needs a writable disk."""

    def __init__(self, _config: object) -> None:
        self._descriptor = os.memfd_create("heartbeat")

    def notify(self) -> None:
        now = time.monotonic()
        os.utime(self._descriptor, (now, now))

    def last_update(self) -> float:
        return os.fstat(self._descriptor).st_mtime

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)


class FrontApplication(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """The HTTP process; `load` runs in it after the fork."""

    def __init__(self, settings: Settings, *, http_fd: int, link_fd: int, channel_fd: int) -> None:
        self._settings = settings
        self._http_fd = http_fd
        self._link_fd = link_fd
        self._channel_fd = channel_fd
        super().__init__()

    def load_config(self) -> None:
        for name, value in gunicorn_settings(self._http_fd, self._settings).items():
            self.cfg.set(name, value)

    def load(self) -> BaseFront:
        link = socket.socket(fileno=os.dup(self._link_fd))
        if self._settings.is_multi_model:
            channel = socket.socket(fileno=os.dup(self._channel_fd))
            return ModelsFront(self._settings, link, channel)
        return Front(self._settings, link)

    def run(self) -> None:
        base.WorkerTmp = MemoryHeartbeat
        parsers.install()
        super().run()


def gunicorn_settings(http_fd: int, settings: Settings) -> Mapping[str, object]:
    """Return gunicorn's settings: one process, so that there is one broker."""
    return {
        "bind": f"fd://{http_fd}",
        "workers": 1,  # WEB_CONCURRENCY must not make it two
        "worker_class": FrontWorker,
        "asgi_loop": settings.event_loop,  # uvloop if it is installed
        "http_parser": "auto",  # the one in C if it is installed
        "asgi_lifespan": "off",
        "asgi_disconnect_grace_period": 0,  # a request whose client has gone learns it at once
        "websocket_max_message_size": min(MESSAGE, settings.payload or MESSAGE),
        "timeout": 0,  # it would kill all requests for one; deadlines are the broker's
        "graceful_timeout": int(settings.drain),
        "keepalive": KEEPALIVE,
        "max_requests": 0,  # pings count as requests
        "preload_app": False,  # threads do not survive a fork
        "reload": False,
        "control_socket_disable": True,  # a socket in $HOME that nothing here needs
        "accesslog": None,  # the request log is ours
        "errorlog": "-",
        "loglevel": "warning",
        "forwarded_allow_ips": "",  # no proxy is in front of this server
        "proc_name": "byoc-front",
    }
