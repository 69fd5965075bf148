"""The ASGI application: /ping and /invocations here, all else by Flask or the user's app."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from sagemaker_byoc.contract import http, serving
from sagemaker_byoc.serving import log, media
from sagemaker_byoc.serving.front.admission import Admission
from sagemaker_byoc.serving.front.body import Receive
from sagemaker_byoc.serving.front.bridge import Bridge
from sagemaker_byoc.serving.front.broker import Broker
from sagemaker_byoc.serving.front.invocation import Invocations, Unsent
from sagemaker_byoc.serving.front.journal import Journal
from sagemaker_byoc.serving.front.lanes import Lanes
from sagemaker_byoc.serving.front.ledger import Ledger
from sagemaker_byoc.serving.front.metrics import Metrics
from sagemaker_byoc.serving.front.replies import Answer, Send, send_answer
from sagemaker_byoc.serving.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

TICK = 0.1
OURS = frozenset({serving.METRICS.value, serving.EXECUTION_PARAMETERS.value})
MODELS = frozenset({http.PING.value, http.INVOCATIONS.value})
OPEN = {"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"0")]}
EMPTY = {"type": "http.response.body", "body": b""}


class Front:
    """Made in the HTTP process; `open` once its event loop runs."""

    def __init__(self, settings: Settings, link: socket.socket) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.broker = Broker(
            slots=settings.slots,
            admission=Admission(
                requests=settings.slots + settings.queue, bytes_=settings.queue_bytes
            ),
            stuck_grace=settings.stuck_grace,
            target=settings.target_latency,
        )
        self.broker.on_batch = self.metrics.batch.observe
        self.journal = Journal()
        self._lanes = Lanes(link, self.broker)
        self.invocations = Invocations(self.broker, settings, Ledger(self.metrics, self.journal))
        self.handed_over: dict[object, Unsent] = {}
        """What a connection began without a task and needs one to send, by its receiver."""
        self._bridge = Bridge(self._create_app)
        self.payload = sys.maxsize if settings.payload is None else settings.payload
        self._last_ping = ""

    def _create_app(self) -> Flask:
        from sagemaker_byoc.serving.front import routes  # noqa: PLC0415 - see Bridge

        return routes.create_app(self.broker, self.settings, self.metrics)

    def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.journal.open(loop)
        self._lanes.open(loop)
        gc.freeze()  # what is here stays: the collector need not look at it again and again
        self._tick()

    def close(self) -> None:
        self.journal.close()

    def _tick(self) -> None:
        self._loop.call_later(TICK, self._tick)
        self.broker.tick()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # gunicorn answers a WebSocket's opening with 403
        path, method = scope["path"], scope["method"]
        if path == http.INVOCATIONS.value and method == "POST":
            unsent = self.handed_over.pop(getattr(receive, "__self__", None), None)
            if unsent is not None:
                await self.invocations.send_rest(unsent, send)
            else:
                await self.invocations(scope, receive, send)
        elif path == http.PING.value and method in {"GET", "HEAD", "POST"}:
            await self._ping(send)
        elif self.broker.has_app and path not in OURS and path not in MODELS:
            await self.invocations(scope, receive, send, is_route=True)
        else:
            await self._bridge(scope, receive, send)

    async def _ping(self, send: Send) -> None:
        """From the broker's memory: never waits for a worker."""
        health = self.broker.health()
        if health.status != self._last_ping:
            self._last_ping = health.status
            log.say(f"ping: {health.status}" + (f": {health.reason}" if health.reason else ""))
        if health.is_ready:
            await send(OPEN)
            await send(EMPTY)
            return
        text = orjson.dumps({"status": health.status, "reason": health.reason})
        await send_answer(send, Answer(503, [(b"Content-Type", media.JSON.encode())], text))
