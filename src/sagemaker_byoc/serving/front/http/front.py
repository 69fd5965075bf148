"""The front as an ASGI application: what every front does, and the front of one model.

/ping and /invocations are answered here, all else by Flask or the user's application.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving import log, media, open_files
from sagemaker_byoc.serving.bodies import INLINE
from sagemaker_byoc.serving.front.broker.admission import ARRIVING, Admission, Room
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.lanes import Lanes
from sagemaker_byoc.serving.front.broker.slots import Health
from sagemaker_byoc.serving.front.captures import Recorder
from sagemaker_byoc.serving.front.http.adapters import Adapters
from sagemaker_byoc.serving.front.http.conversations import Conversations
from sagemaker_byoc.serving.front.http.flask_routes import FlaskRoutes, create_app
from sagemaker_byoc.serving.front.http.invocation import Invocations, Unsent
from sagemaker_byoc.serving.front.http.replies import Answer, Send, send_answer
from sagemaker_byoc.serving.front.http.requests import Receive
from sagemaker_byoc.serving.front.telemetry import (
    Gauges,
    Journal,
    Ledger,
    Metrics,
    read_gauges,
    read_gpus,
)
from sagemaker_byoc.serving.settings import Settings

BUDGET_WINDOW = 60.0
BUDGET_STEP = 1.0
BUDGET_LEAST = 20
"""Answers within the window below which the budget is never spent."""
FAILURES = frozenset({500, 504, 507})
"""The model raised, died, hung or had no memory. Refusals (503) and bad requests do not count."""


class ErrorBudget:
    """The share of failures among the answers of the last minute; `most` is in percent, 0 for
    never.

    It recovers by itself: without requests, or with good ones, failures leave the window.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._looks: deque[tuple[float, int, int]] = deque([(0.0, 0, 0)])
        self.reason = ""
        """Why /ping answers 503; empty while it does not."""

    def look(self, now: float, statuses: Mapping[int, int]) -> None:
        """Update from the counts of all answers so far; called periodically."""
        if not self._most or now < self._looks[-1][0] + BUDGET_STEP:
            return
        good = sum(count for status, count in statuses.items() if status < 400)
        bad = sum(statuses.get(status, 0) for status in FAILURES)
        self._looks.append((now, good, bad))
        while len(self._looks) > 1 and self._looks[1][0] <= now - BUDGET_WINDOW:
            self._looks.popleft()
        _, good_before, bad_before = self._looks[0]
        failed, answered = bad - bad_before, good + bad - good_before - bad_before
        is_spent = answered >= BUDGET_LEAST and 100 * failed >= self._most * answered
        self.reason = (
            f"{failed} of {answered} requests failed within {BUDGET_WINDOW:g} s" if is_spent else ""
        )


TICK = 0.1
OURS = frozenset(
    route.value for route in (http.PING, http.INVOCATIONS, http.METRICS, http.EXECUTION_PARAMETERS)
)
"""Routes that an application beside the handlers never gets, unless it names them itself."""
PINGS = frozenset({"GET", "HEAD", "POST"})
OPEN = {"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"0")]}
EMPTY = {"type": "http.response.body", "body": b""}


class BaseFront(ABC):
    """The base of fronts, made in the HTTP process; call `open` once its event loop runs."""

    broker: Broker
    invocations: Invocations
    """Invocations that take the fast path; see connection.py."""
    direct: int
    """Largest body, in bytes, that may take the fast path."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.journal = Journal()
        self.ledger = Ledger(self.metrics, self.journal)
        self.flask = FlaskRoutes(
            lambda: create_app(settings, self.metrics, self.gauges, self.workers)
        )
        self.recorder = None if settings.capture is None else Recorder(settings.capture)
        self.handed_over: dict[object, Unsent] = {}
        """Requests that a connection began without a task and needs a task to answer, by
        receiver."""
        self._last_ping = ""

    def make_broker(self, slots: int, room: Room) -> Broker:
        broker = Broker(
            slots=slots,
            admission=Admission(
                requests=slots + self.settings.queue,
                room=room,
                arriving=min(ARRIVING, open_files.bodies()),
            ),
            stuck_grace=self.settings.stuck_grace,
            target=self.settings.target_latency,
        )
        broker.later, broker.delay = self._soon, self._after
        broker.on_batch = self.metrics.batch.observe
        return broker

    def _soon(self, call: Callable[[], None]) -> None:
        self.loop.call_soon(call)

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        self.loop.call_later(seconds, call)

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
        """End what would continue while its client stays."""
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
        """Return the brokers, one per model."""

    def workers(self) -> int:
        """Return how many workers one model has."""
        return self.settings.slots

    @abstractmethod
    def health(self) -> Health: ...

    def gauges(self) -> Gauges:
        """Return all gauges; called on another thread than the event loop's."""
        own = read_gauges(self.brokers(), is_ready=self.health().is_ready)
        captured = {} if self.recorder is None else self.recorder.gauges()
        return {**own, **captured, **(read_gpus() if self.settings.gpus else {})}

    @abstractmethod
    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None: ...

    async def ping(self, send: Send) -> None:
        """Answer /ping from memory, without waiting for a worker."""
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


class Front(BaseFront):
    """The front of one model: one broker for all requests."""

    def __init__(self, settings: Settings, link: socket.socket) -> None:
        super().__init__(settings)
        self.broker = self.make_broker(settings.slots, Room(settings.queue_bytes))
        self.broker.restart_grace = settings.deadline
        self.invocations = Invocations(self.broker, settings, self.ledger, self.recorder)
        if self.recorder is not None:
            self.broker.on_captured = self.recorder.redacted
        self._budget = ErrorBudget(settings.error_budget)
        self.conversations = Conversations(self.broker, settings, self.journal)
        self._adapters = self.invocations.adapters = Adapters(self.broker, settings)
        limit = sys.maxsize if settings.payload is None else settings.payload
        self.direct = min(INLINE, limit)
        self._lanes = Lanes(link, lambda _: self.broker)

    def open(self) -> None:
        super().open()
        self._lanes.open(self.loop)

    def brokers(self) -> Sequence[Broker]:
        return (self.broker,)

    def workers(self) -> int:
        return self.broker.size

    def tick(self) -> None:
        super().tick()
        self.conversations.tick()
        self._budget.look(time.monotonic(), self.metrics.statuses)

    async def drain(self) -> None:
        await super().drain()
        await self.conversations.drain()

    def health(self) -> Health:
        health = self.broker.health()
        if health.is_ready and self._budget.reason:
            return Health(is_ready=False, status="failing", reason=self._budget.reason)
        return health

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"] == http.BIDIRECTIONAL.value:
            await self.conversations(scope, receive, send)
        if scope["type"] != "http":
            return  # gunicorn answers the opening of a WebSocket that nobody accepted with 403
        path, method = scope["path"], scope["method"]
        if path == http.INVOCATIONS.value and method == "POST":
            unsent = self.handed_over.pop(getattr(receive, "__self__", None), None)
            if unsent is not None:
                await self.invocations.send_rest(unsent, send)
            else:
                await self.invocations(scope, receive, send, is_route=self._is_for_app(path))
        elif path == http.PING.value and method in PINGS:
            await self.ping(send)
        elif path == http.CHAT.value and method == "POST" and self.broker.has_chat:
            await self.invocations(scope, receive, send, is_chat=True)
        elif self.broker.has_adapters and f"{path}/".startswith(f"{http.ADAPTERS.value}/"):
            await self._adapters(scope, receive, send)
        elif self._is_for_app(path):
            await self.invocations(scope, receive, send, is_route=True)
        else:
            await self.flask(scope, receive, send)

    def _is_for_app(self, path: str) -> bool:
        return path in self.broker.app_routes or (self.broker.has_app and path not in OURS)
