"""The front of a multi-model endpoint: /models and the routes below it.

SageMaker loads and unloads models as requests name them; an endpoint without a loaded model is
healthy.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

import orjson

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving import open_files
from sagemaker_byoc.serving.error_replies import BadInput, Refusal, UnknownModel
from sagemaker_byoc.serving.front.broker.admission import ARRIVING, Admission, Room
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.lanes import Lanes
from sagemaker_byoc.serving.front.broker.tickets import Health
from sagemaker_byoc.serving.front.http import replies
from sagemaker_byoc.serving.front.http.front import PINGS, BaseFront
from sagemaker_byoc.serving.front.http.invocation import Invocations
from sagemaker_byoc.serving.front.http.replies import Send, send_answer
from sagemaker_byoc.serving.front.http.requests import Receive, drain, read_small
from sagemaker_byoc.serving.front.models.models import Model, Models
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.supervisor.model_processes import Channel

INVOKE = "invoke"
BODY = 16 * 1024
"""Largest request to load a model, in bytes."""
NAME = re.compile(r"[^/\x00-\x1f\x7f]{1,512}")
URL_LENGTH = 4096
METHODS = {0: ("GET", "POST"), 1: ("GET", "DELETE"), 2: ("POST",)}
"""Allowed methods by the number of path segments after /models."""


class ModelsFront(BaseFront):
    """The front of many models: one broker per model, all sharing the room for bodies."""

    direct = -1

    def __init__(self, settings: Settings, link: socket.socket, channel: socket.socket) -> None:
        super().__init__(settings)
        self._room = Room(settings.queue_bytes)
        self._models = Models(settings, Channel(channel), self._make)
        self._invocations: WeakKeyDictionary[Broker, Invocations] = WeakKeyDictionary()
        self._lanes = Lanes(link, self._models.broker_of)

    def _make(self, name: str) -> Broker:
        broker = Broker(
            slots=1,
            admission=Admission(
                requests=1 + self.settings.queue,
                room=self._room,
                arriving=min(ARRIVING, open_files.bodies()),
            ),
            stuck_grace=self.settings.stuck_grace,
            target=self.settings.target_latency,
        )
        broker.model = name
        broker.on_batch = self.metrics.batch.observe
        self._invocations[broker] = Invocations(broker, self.settings, self.ledger)
        return broker

    def open(self) -> None:
        super().open()
        # Processes that come back wait in the link's backlog until their models are known.
        self._models.on_listed = lambda: self._lanes.open(self.loop)
        self._models.open(self.loop)

    def brokers(self) -> Sequence[Broker]:
        return self._models.brokers()

    def health(self) -> Health:
        return Health(is_ready=True, status="ready", reason="")

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # gunicorn answers a WebSocket's opening with 403
        path, method = scope["path"], scope["method"]
        if path == http.PING.value and method in PINGS:
            await self.ping(send)
            return
        base, *rest = path.removeprefix("/").split("/", 2)
        if f"/{base}" != http.MODELS.value or (len(rest) == 2 and rest[1] != INVOKE):
            if path == http.INVOCATIONS.value and method == "POST":
                text = f"This endpoint has many models: POST {http.MODELS.value}/NAME/{INVOKE}"
                await self._refuse(send, UnknownModel(text))
            else:
                await self.flask(scope, receive, send)
            return
        if method not in METHODS[len(rest)]:
            answer = replies.document(
                405, "MethodNotAllowed", f"{method} {path[:200]}", os.urandom(8).hex()
            )
            answer.headers.append((b"Allow", ", ".join(METHODS[len(rest)]).encode()))
            await send_answer(send, answer)
            return
        try:
            if len(rest) == 2:
                await self._invoke(rest[0], scope, receive, send)
            else:
                found = await self._manage(method, rest, scope, receive)
                await send_answer(send, replies.json_answer(found))
        except Refusal as refusal:
            await self._refuse(send, refusal)

    async def _invoke(
        self, name: str, scope: Mapping[str, Any], receive: Receive, send: Send
    ) -> None:
        try:
            model = await self._models.get(name)
        except Refusal as refusal:
            await self._refuse(send, refusal)
            await drain(receive, self.settings.payload)
            return
        is_app = bool(model.broker.app_routes)
        if is_app:
            scope = {**scope, "path": http.INVOCATIONS.value}
        await self._invocations[model.broker](scope, receive, send, is_route=is_app)

    async def _manage(
        self, method: str, rest: Sequence[str], scope: Mapping[str, Any], receive: Receive
    ) -> dict[str, object]:
        if method == "POST":
            name, url = await _load_request(receive)
            await self._models.load(name, url)
            return {"modelName": name, "modelUrl": url}
        if not rest:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            page, token = await self._models.page(query.get("next_page_token", [""])[-1])
            more = {"nextPageToken": token} if token is not None else {}
            return {"models": [_entry(model) for model in page], **more}
        if method == "DELETE":
            await self._models.unload(rest[0])
            return {"modelName": rest[0]}
        return _entry(await self._models.get(rest[0]))

    async def _refuse(self, send: Send, refusal: Refusal) -> None:
        identity = os.urandom(8).hex()
        await send_answer(
            send, replies.document(refusal.status, refusal.code, refusal.message, identity)
        )


async def _load_request(receive: Receive) -> tuple[str, str]:
    """Return the model's name and folder."""
    body = await read_small(receive, BODY)
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"The body is not JSON: {error}") from None
    found = values if isinstance(values, dict) else {}
    name, url = found.get("model_name"), found.get("url")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadInput("model_name must be a string of 1 to 512 characters without /")
    if not isinstance(url, str) or not 0 < len(url) <= URL_LENGTH:
        raise BadInput("url must be the path of a folder")
    return name, url


def _entry(model: Model) -> dict[str, object]:
    return {"modelName": model.name, "modelUrl": model.url}
