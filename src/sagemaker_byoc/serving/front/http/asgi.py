"""The front of one model: /ping and /invocations here, all else by Flask or the user's app."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sagemaker_byoc.contract.hosting import http
from sagemaker_byoc.serving import limits
from sagemaker_byoc.serving.bodies import INLINE
from sagemaker_byoc.serving.front.broker.admission import ARRIVING, Admission, Room
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.budget import ErrorBudget
from sagemaker_byoc.serving.front.broker.lanes import Lanes
from sagemaker_byoc.serving.front.broker.tickets import Health
from sagemaker_byoc.serving.front.http.base import MODELS, OURS, PINGS, BaseFront
from sagemaker_byoc.serving.front.http.body import Receive
from sagemaker_byoc.serving.front.http.conversations import Conversations
from sagemaker_byoc.serving.front.http.invocation import Invocations
from sagemaker_byoc.serving.front.http.replies import Send
from sagemaker_byoc.serving.front.models.adapters import Adapters
from sagemaker_byoc.serving.settings import Settings


class Front(BaseFront):
    """One broker for all that comes."""

    def __init__(self, settings: Settings, link: socket.socket) -> None:
        super().__init__(settings)
        requests = settings.slots + settings.queue
        self.broker = Broker(
            slots=settings.slots,
            admission=Admission(
                requests=requests,
                room=Room(settings.queue_bytes),
                arriving=min(ARRIVING, limits.bodies()),
            ),
            stuck_grace=settings.stuck_grace,
            target=settings.target_latency,
        )
        self.broker.restart_grace = settings.deadline
        self.broker.on_batch = self.metrics.batch.observe
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
            await self.bridge(scope, receive, send)

    def _is_for_app(self, path: str) -> bool:
        is_ours = path in OURS or path in MODELS
        return path in self.broker.app_routes or (self.broker.has_app and not is_ours)
