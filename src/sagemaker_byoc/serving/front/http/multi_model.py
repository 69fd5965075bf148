"""The front of a multi-model endpoint: /models, the routes below it, and the models themselves.

SageMaker loads and unloads models as requests name them; an endpoint without a loaded model is
healthy. Each model has a process and a broker in front of it. The supervisor owns the processes;
the table of models asks for them over a channel and waits for the result.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from sagemaker_byoc.contract import http, machine, variables
from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.error_replies import (
    AlreadyLoaded,
    BadInput,
    LoadFailed,
    OutOfMemory,
    Refusal,
    Unavailable,
    UnknownModel,
)
from sagemaker_byoc.serving.front.broker.admission import Room
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.lanes import Lanes
from sagemaker_byoc.serving.front.broker.slots import Health
from sagemaker_byoc.serving.front.http import replies
from sagemaker_byoc.serving.front.http.front import PINGS, BaseFront
from sagemaker_byoc.serving.front.http.invocation import Invocations
from sagemaker_byoc.serving.front.http.replies import METHODS, Send, send_answer
from sagemaker_byoc.serving.front.http.requests import Receive, drain, read_object, resolved_below
from sagemaker_byoc.serving.link import LinkError
from sagemaker_byoc.serving.settings import Settings
from sagemaker_byoc.serving.supervisor import model_processes
from sagemaker_byoc.serving.supervisor.slots import Channel, Message

INVOKE = "invoke"
NAME = re.compile(r"[^/\x00-\x1f\x7f]{1,512}")
URL_LENGTH = 4096


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
        broker = self.make_broker(1, self._room)
        broker.model = name
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
                await send_answer(send, replies.refused(UnknownModel(text)))
            else:
                await self.flask(scope, receive, send)
            return
        if method not in METHODS[len(rest)]:
            await send_answer(send, replies.not_allowed(method, path, METHODS[len(rest)]))
            return
        try:
            if len(rest) == 2:
                await self._invoke(rest[0], scope, receive, send)
            else:
                found = await self._manage(method, rest, scope, receive)
                await send_answer(send, replies.json_answer(found))
        except Refusal as refusal:
            await send_answer(send, replies.refused(refusal))

    async def _invoke(
        self, name: str, scope: Mapping[str, Any], receive: Receive, send: Send
    ) -> None:
        try:
            model = await self._models.get(name)
        except Refusal as refusal:
            await send_answer(send, replies.refused(refusal))
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


async def _load_request(receive: Receive) -> tuple[str, str]:
    """Return the model's name and folder."""
    found = await read_object(receive)
    name, url = found.get("model_name"), found.get("url")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadInput("model_name must be a string of 1 to 512 characters without /")
    if not isinstance(url, str) or not 0 < len(url) <= URL_LENGTH:
        raise BadInput("url must be the path of a folder")
    return name, url


def _entry(model: Model) -> dict[str, object]:
    return {"modelName": model.name, "modelUrl": model.url}


# ── the models ──

T = TypeVar("T")
PAGE = 100
"""Models per page of a listing."""
LOAD_TIME = 480.0
"""Seconds that a load may take: as long as the platform gives a whole container."""
UNLOAD_TIME = 20.0
"""Seconds for running requests when their model is unloaded."""
END_TIME = 10.0
"""Seconds for its process to end; the supervisor kills it after two."""
LIST_TIME = 2.0
POLL = 0.02
WORKER_BYTES = 256 * 2**20
FILES_FACTOR = 1.5
"""Estimated memory of a model: a process with torch, its files once in memory, and half as much
again while they are read (docs/decisions/0011)."""
KILLED = -9


@dataclass(slots=True, eq=False)
class Model:
    """One model. `settled` has the outcome of its load, None for success; `gone` the end of its
    process."""

    name: str
    url: str
    need: int
    broker: Broker
    settled: asyncio.Future[Refusal | None]
    gone: asyncio.Future[None]
    began: float = field(default_factory=time.monotonic)
    is_loaded: bool = False
    is_leaving: bool = False
    problem: Refusal | None = None


class Models:
    """Models by name. `make` creates the broker of a model."""

    def __init__(
        self,
        settings: Settings,
        channel: Channel,
        make: Callable[[str], Broker],
        free_memory: Callable[[], int] = machine.free_memory,
    ) -> None:
        self._settings = settings
        self._channel = channel
        self._make = make
        self._free_memory = free_memory
        self._models: dict[str, Model] = {}
        self._listed = asyncio.Event()
        self._entering = asyncio.Lock()
        self.on_listed: Callable[[], None] = lambda: None

    # ── the supervisor ──

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask the supervisor for the models that a former HTTP process has left."""
        self._loop = loop
        loop.add_reader(self._channel.fileno(), self._on_readable)
        self._channel.send(model_processes.LIST)

    def _on_readable(self) -> None:
        for message in self._channel.receive():
            self._handle(message)

    def _handle(self, message: Message) -> None:
        if message["what"] == model_processes.KNOWN:
            model = self._enter(message["name"], message["url"], 0)
            model.is_loaded = True  # or will be in a moment, when its process connects
        elif message["what"] == model_processes.LISTED and not self._listed.is_set():
            self._listed.set()
            self.on_listed()
        elif message["what"] == model_processes.ENDED:
            self._ended(message["name"], message["how"], message["code"])

    def _ended(self, name: str, how: str, code: int) -> None:
        model = self._models.pop(name, None)
        if model is None:
            return
        if not model.settled.done():
            ran_out = f"Its process {how}"
            found = OutOfMemory(ran_out) if code == KILLED else LoadFailed(ran_out)
            model.settled.set_result(model.problem or found)
        model.broker.shut()
        model.gone.set_result(None)

    # ── what the routes ask ──

    def brokers(self) -> list[Broker]:
        return [model.broker for model in self._models.values()]

    def broker_of(self, name: str) -> Broker:
        """Return the broker for a process that reports to hold `name`."""
        model = self._models.get(name)
        if model is None:
            raise LinkError(f"model {name[:100]!r} was not requested")
        return model.broker

    async def get(self, name: str) -> Model:
        await self._known()
        model = self._models.get(name)
        if model is None or model.is_leaving or not model.is_loaded:
            raise UnknownModel(f"No model {name[:100]!r} is loaded")
        return model

    async def page(self, after: str) -> tuple[list[Model], str | None]:
        """Return at most PAGE models that follow `after` by name, and the name after which the next
        page begins; None on the last page."""
        await self._known()
        names = sorted(
            name for name, found in self._models.items() if found.is_loaded and not found.is_leaving
        )
        start = bisect_right(names, after)
        page = [self._models[name] for name in names[start : start + PAGE]]
        has_more = start + PAGE < len(names)
        return page, page[-1].name if has_more else None

    async def load(self, name: str, url: str) -> None:
        """Load a model and return when it can answer. A second load meanwhile waits for the first
        and fails."""
        await self._known()
        self._check_new(name)  # before the url: SageMaker takes 409 for success
        folder = self._folder(url)
        while (model := self._models.get(name)) is not None and model.is_leaving:
            await self._wait(model.gone, END_TIME + UNLOAD_TIME)
        # In turn, so that of two loads at once the first to ask is the one that loads.
        async with self._entering:
            model = self._models.get(name)
            is_first = model is None
            if model is None:
                need = await self._loop.run_in_executor(None, self._need, folder)
                self._check_room(need)
                model = self._enter(name, url, need)
                self._channel.send(model_processes.START, name=name, url=str(folder))
        try:
            problem = await self._wait(model.settled, LOAD_TIME)
        except TimeoutError:
            self._channel.send(model_processes.STOP, name=name)
            raise LoadFailed(f"It was not loaded within {LOAD_TIME:g} s") from None
        if problem is not None:
            raise problem
        if not is_first:
            raise AlreadyLoaded(f"Model {name[:100]!r} is already loaded")

    def _check_new(self, name: str) -> None:
        model = self._models.get(name)
        if model is not None and model.is_loaded and not model.is_leaving:
            raise AlreadyLoaded(f"Model {name[:100]!r} is already loaded")

    async def unload(self, name: str) -> None:
        """Unload a model and return when its process and its memory are gone."""
        await self._known()
        model = self._models.get(name)
        if model is None:
            raise UnknownModel(f"No model {name[:100]!r} is loaded")
        if not model.is_leaving:
            model.is_leaving = True
            until = time.monotonic() + UNLOAD_TIME
            while model.is_loaded and model.broker.admission.requests and time.monotonic() < until:
                await asyncio.sleep(POLL)
            self._channel.send(model_processes.STOP, name=name)
        try:
            await self._wait(model.gone, END_TIME + UNLOAD_TIME)
        except TimeoutError:
            raise Refusal(f"The process of {name[:100]!r} does not end") from None

    # ── inside ──

    async def _known(self) -> None:
        try:
            await asyncio.wait_for(self._listed.wait(), LIST_TIME)
        except TimeoutError:
            raise Unavailable("The supervisor has not reported which models are loaded") from None

    async def _wait(self, future: asyncio.Future[T], timeout: float) -> T:
        return await asyncio.wait_for(asyncio.shield(future), timeout)

    def _enter(self, name: str, url: str, need: int) -> Model:
        broker = self._make(name)
        model = Model(
            name, url, need, broker, self._loop.create_future(), self._loop.create_future()
        )

        def on_ready() -> None:
            if not model.settled.done():
                took = time.monotonic() - model.began
                log.say(f"model {name}: ready in {took:.2f} s")
                model.settled.set_result(None)
            model.is_loaded, model.need = True, 0

        def on_failure(reason: str, status: int) -> None:
            model.problem = (OutOfMemory if status == OutOfMemory.status else LoadFailed)(reason)

        broker.on_ready, broker.on_failure = on_ready, on_failure
        self._models[name] = model
        return model

    def _folder(self, url: str) -> Path:
        """Return the folder into which the platform has unpacked the model; refuse any outside its
        root."""
        tree, shown = self._settings.tree, f"url {url[:200]!r}"
        if not url.startswith("/"):
            raise BadInput(f"{shown} is not an absolute path")
        root = tree.root / http.MODELS_FOLDER.value
        folder = resolved_below(root, tree.moved(url), shown, UnknownModel)
        if not folder.is_dir():
            raise UnknownModel(f"{shown} is not a folder")
        return folder

    def _need(self, folder: Path) -> int:
        """Return the bytes of memory that a model needs, as configured or by the size of its
        files."""
        if self._settings.model_memory is not None:
            return self._settings.model_memory
        sizes = [path.lstat().st_size for path in folder.rglob("*") if path.is_file()]
        return WORKER_BYTES + int(FILES_FACTOR * sum(sizes))

    def _check_room(self, need: int) -> None:
        """Raise OutOfMemory if the model does not fit beside those loaded and those being
        loaded."""
        promised = sum(model.need for model in self._models.values())
        free = self._free_memory() - promised
        if need > free:
            raise OutOfMemory(
                f"The model needs about {need // 2**20} MiB of memory, and {max(0, free) // 2**20} "
                f"MiB are free ({variables.MODEL_MEMORY} sets what a model needs)"
            )
