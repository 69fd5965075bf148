"""gunicorn with every setting that an invariant of ours rests on; nothing outside can change them.

gunicorn's own ways in (its command line, GUNICORN_CMD_ARGS, a gunicorn.conf.py in the working
directory) belong to a subclass of its Application that we do not use.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Mapping

from flask import Flask
from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.workers import base
from gunicorn.workers.gthread import TConn, ThreadWorker

from sagemaker_byoc.contract.lifecycle import SERVE_DRAIN
from sagemaker_byoc.serving.front.broker import Broker
from sagemaker_byoc.serving.front.routes import create_app
from sagemaker_byoc.serving.front.workers import accept_workers, start_thread
from sagemaker_byoc.serving.settings import Settings

RESERVE = 16
"""Threads beyond what admission lets in: /ping, and those that are being refused."""
KEEPALIVE = 75
"""Seconds; longer than usual idle times of clients, so that it is they who close."""


class MemoryHeartbeat:
    """In place of gunicorn's temporary file, which needs a writable disk."""

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


class FrontWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """The thread worker, less two ways in which clients are kept waiting for nothing."""

    def set_accept_enabled(self, enabled: bool) -> None:  # noqa: FBT001 - gunicorn's signature
        """When stopping, refuse connections. gunicorn's listener stays open until the last request
        is done, and whoever connects meanwhile waits, to be cut off in the end."""
        super().set_accept_enabled(enabled)
        if not enabled and not self.alive:
            for listener in self.sockets:
                while listener.sock is not None and _has_connection(listener):
                    self.accept(listener)  # it was established before we stopped
                listener.close()

    def handle(self, conn: TConn) -> object:
        """Close here. gunicorn lingers up to two seconds, on the thread that accepts all others."""
        result = super().handle(conn)
        if result is False:
            util.close_graceful(conn.sock)
            conn.close = _closed_already
        return result


def _has_connection(listener: socket.socket) -> bool:
    return bool(select.select([listener], [], [], 0)[0])


def _closed_already(*, graceful: bool = False) -> None:
    """Stands for the close() of a connection that is closed; gunicorn calls it with `graceful`."""


class FrontApplication(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """The HTTP process; `load` runs in it, after the fork."""

    def __init__(self, settings: Settings, *, http_fd: int, link_fd: int) -> None:
        self._settings = settings
        self._http_fd = http_fd
        self._link_fd = link_fd
        super().__init__()

    def load_config(self) -> None:
        for name, value in gunicorn_settings(self._settings, self._http_fd).items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        settings = self._settings
        broker = Broker(
            slots=settings.slots, queue=settings.queue, stuck_grace=settings.stuck_grace
        )
        listener = socket.socket(fileno=os.dup(self._link_fd))
        start_thread("workers", accept_workers, listener, broker)
        start_thread("clock", broker.run_clock)
        return create_app(broker, settings)

    def run(self) -> None:
        base.WorkerTmp = MemoryHeartbeat
        super().run()


def gunicorn_settings(settings: Settings, http_fd: int) -> Mapping[str, object]:
    """One process, so that the broker is one."""
    threads = settings.slots + settings.queue + RESERVE
    return {
        "bind": f"fd://{http_fd}",
        "workers": 1,  # WEB_CONCURRENCY must not make it two
        "worker_class": FrontWorker,
        "threads": threads,
        "worker_connections": max(1000, 4 * threads),
        "timeout": 0,  # it would kill all requests for one; deadlines are the broker's
        "graceful_timeout": SERVE_DRAIN.value,
        "keepalive": KEEPALIVE,
        "max_requests": 0,  # pings count as requests
        "preload_app": False,  # threads do not survive a fork
        "reload": False,
        "control_socket_disable": True,  # a way in that nobody here needs, in $HOME
        "accesslog": None,  # the request log is ours
        "errorlog": "-",
        "loglevel": "warning",
        "forwarded_allow_ips": "",  # nobody stands in front of us
        "proc_name": "byoc-front",
    }
