"""What a front is, however many models are behind it: the clock, /ping, the log, Flask's routes."""

from __future__ import annotations

import asyncio
import gc
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from sagemaker_byoc.contract.hosting import http
from sagemaker_byoc.serving import log, media
from sagemaker_byoc.serving.capture.recorder import Recorder
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.tickets import Health
from sagemaker_byoc.serving.front.http.body import Receive
from sagemaker_byoc.serving.front.http.bridge import Bridge
from sagemaker_byoc.serving.front.http.invocation import Invocations, Unsent
from sagemaker_byoc.serving.front.http.replies import Answer, Send, send_answer
from sagemaker_byoc.serving.front.telemetry import gauges, gpus
from sagemaker_byoc.serving.front.telemetry.journal import Journal
from sagemaker_byoc.serving.front.telemetry.ledger import Ledger
from sagemaker_byoc.serving.front.telemetry.metrics import Metrics
from sagemaker_byoc.serving.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

TICK = 0.1
OURS = frozenset({http.METRICS.value, http.EXECUTION_PARAMETERS.value})
MODELS = frozenset({http.PING.value, http.INVOCATIONS.value})
PINGS = frozenset({"GET", "HEAD", "POST"})
OPEN = {"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"0")]}
EMPTY = {"type": "http.response.body", "body": b""}


class BaseFront(ABC):
    """Made in the HTTP process; `open` once its event loop runs."""

    broker: Broker
    invocations: Invocations
    """Of the requests that take the shorter way; see connection.py."""
    direct: int
    """Bytes of a body that may take the shorter way."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.journal = Journal()
        self.ledger = Ledger(self.metrics, self.journal)
        self.bridge = Bridge(self._create_app)
        self.recorder = None if settings.capture is None else Recorder(settings.capture)
        self.handed_over: dict[object, Unsent] = {}
        """What a connection began without a task and needs one to send, by its receiver."""
        self._last_ping = ""

    def _create_app(self) -> Flask:
        from sagemaker_byoc.serving.front.http import routes  # noqa: PLC0415 - see Bridge

        return routes.create_app(self.settings, self.metrics, self.gauges)

    def open(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.journal.open(self.loop)
        if self.recorder is not None:
            self.recorder.open(self.loop)
        gc.freeze()  # what is here stays: the collector need not look at it again and again
        self._tick()

    def close(self) -> None:
        if self.recorder is not None:
            self.recorder.close()
        self.journal.close()

    async def drain(self) -> None:
        """Bring to an end what would go on while its client stays."""
        if self.recorder is not None:
            self.recorder.rotate()  # there may be no time for it when the last request has ended

    def _tick(self) -> None:
        self.loop.call_later(TICK, self._tick)
        self.tick()

    def tick(self) -> None:
        for broker in self.brokers():
            broker.tick()
        if self.recorder is not None:
            self.recorder.tick()

    @abstractmethod
    def brokers(self) -> Sequence[Broker]:
        """One a model."""

    @abstractmethod
    def health(self) -> Health: ...

    def gauges(self) -> gauges.Gauges:
        """On another thread than the event loop's."""
        own = gauges.read(self.brokers(), is_ready=self.health().is_ready)
        captured = {} if self.recorder is None else self.recorder.gauges()
        return {**own, **captured, **(gpus.read() if self.settings.gpus else {})}

    @abstractmethod
    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None: ...

    async def ping(self, send: Send) -> None:
        """From memory: never waits for a worker."""
        health = self.health()
        if health.status != self._last_ping:
            self._last_ping = health.status
            log.say(f"ping: {health.status}" + (f": {health.reason}" if health.reason else ""))
        if health.is_ready:
            await send(OPEN)
            await send(EMPTY)
            return
        text = orjson.dumps({"status": health.status, "reason": health.reason})
        await send_answer(send, Answer(503, [(b"Content-Type", media.JSON.encode())], text))
