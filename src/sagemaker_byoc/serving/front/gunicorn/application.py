"""gunicorn with every setting that an invariant of ours rests on; nothing outside can change them.

gunicorn's own ways in (its command line, GUNICORN_CMD_ARGS, a gunicorn.conf.py in the working
directory) belong to a subclass of its Application that we do not use.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from gunicorn.app.base import BaseApplication
from gunicorn.workers import base

from sagemaker_byoc.contract.lifecycle import SERVE_DRAIN
from sagemaker_byoc.serving.front.gunicorn import parser, websocket
from sagemaker_byoc.serving.front.gunicorn.worker import FrontWorker
from sagemaker_byoc.serving.front.http.asgi import Front
from sagemaker_byoc.serving.front.http.base import BaseFront
from sagemaker_byoc.serving.front.models.multi import ModelsFront
from sagemaker_byoc.serving.settings import Settings

MESSAGE = 16 * 2**20
"""Bytes of one message of a two-way stream."""
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


class FrontApplication(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """The HTTP process; `load` runs in it, after the fork."""

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
        websocket.install_websocket()
        parser.install_parser()
        super().run()


def gunicorn_settings(http_fd: int, settings: Settings) -> Mapping[str, object]:
    """One process, so that the broker is one."""
    return {
        "bind": f"fd://{http_fd}",
        "workers": 1,  # WEB_CONCURRENCY must not make it two
        "worker_class": FrontWorker,
        "asgi_loop": settings.event_loop,  # uvloop where it is installed
        "http_parser": "auto",  # the one in C where it is installed
        "asgi_lifespan": "off",
        "asgi_disconnect_grace_period": 0,  # a request whose client has gone learns it at once
        "websocket_max_message_size": min(MESSAGE, settings.payload or MESSAGE),
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
