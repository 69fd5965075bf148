"""Adapters (such as LoRA) of the one model: registered over HTTP, loaded in every worker.

SageMaker registers the artifacts of adapter components this way, and names one in a header of each
request that uses it. The handlers decide how an adapter is loaded and used.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from sagemaker_byoc.contract import http
from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.error_replies import (
    AdapterFailed,
    BadInput,
    OutOfMemory,
    Refusal,
    Unavailable,
    UnknownAdapter,
)
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.tickets import End, Outcome, setter_of
from sagemaker_byoc.serving.front.http import replies
from sagemaker_byoc.serving.front.http.replies import METHODS, Answer, Send
from sagemaker_byoc.serving.front.http.requests import Receive, read_object, resolved_below
from sagemaker_byoc.serving.settings import Settings

HEADER = http.ADAPTER_ID.value.lower()
NAME_LENGTH = 256
LOAD, UNLOAD = "load", "unload"
UPDATE = "update"


class Adapters:
    """Registered adapters by name, with their folders; one change at a time, owned by one event
    loop."""

    def __init__(self, broker: Broker, settings: Settings) -> None:
        self._broker = broker
        self._settings = settings
        self._folders: dict[str, str] = {}
        self._change = asyncio.Lock()
        broker.on_adapters = self.adopt

    def check(self, meta: Mapping[str, Any]) -> None:
        """Raise UnknownAdapter if the request names an adapter that is not registered."""
        name = meta.get("headers", {}).get(HEADER)
        if name and name not in self._folders:
            raise UnknownAdapter(f"No adapter {name[:100]!r} is registered")

    def adopt(self, slot: int, held: Mapping[str, str]) -> None:
        """Compare the adapters that a ready worker holds with the registered ones.

        It holds all of them if only this process is new, none if the worker is new, which then has
        to load them before it answers anything.
        """
        for name, folder in held.items():
            self._folders.setdefault(name, folder)
        for name, folder in self._folders.items():
            if name not in held:
                self._submit(LOAD, name, folder, slot)

    # ── routes ──

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        method = scope["method"]
        rest = [part for part in scope["path"].split("/")[2:] if part]
        try:
            answer = await self._answer(method, rest, scope, receive)
        except Refusal as refusal:
            answer = replies.refused(refusal)
        await replies.send_answer(send, answer)

    async def _answer(
        self, method: str, rest: Sequence[str], scope: Mapping[str, Any], receive: Receive
    ) -> Answer:
        if len(rest) > 2 or (len(rest) == 2 and rest[1] != UPDATE):
            return replies.document(404, "NotFound", f"{method} {scope['path'][:200]}: Not Found")
        if method not in METHODS[len(rest)]:
            return replies.not_allowed(method, scope["path"], METHODS[len(rest)])
        if method == "GET":
            return self._show(rest)
        if method == "DELETE":
            await self.unregister(rest[0])
            return _text(f"Adapter {rest[0]} unregistered")
        values = await _parameters(scope, receive)
        name = rest[0] if rest else values.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH or "/" in name:
            raise BadInput(f"name must be a string of 1 to {NAME_LENGTH} characters without /")
        await self.register(name, self._folder(values.get("src")), is_update=bool(rest))
        return _text(f"Adapter {name} {'updated' if rest else 'registered'}")

    def _show(self, rest: Sequence[str]) -> Answer:
        if not rest:
            found = [{"name": name, "src": src} for name, src in sorted(self._folders.items())]
            return replies.json_answer({"adapters": found})
        return replies.json_answer({"name": rest[0], "src": self._known(rest[0])})

    # ── changes ──

    async def register(self, name: str, folder: str, *, is_update: bool = False) -> None:
        async with self._change:
            if is_update:
                self._known(name)
            elif name in self._folders:
                raise BadInput(f"Adapter {name!r} is already registered; update or delete it")
            elif len(self._folders) >= self._settings.adapters:
                raise OutOfMemory(f"{len(self._folders)} adapters are already registered")
            before = self._folders.get(name)
            self._folders[name] = folder  # a worker that starts meanwhile loads it too
            try:
                await self._everywhere(LOAD, name, folder)
            except Refusal:
                self._folders.pop(name, None)
                if before is None:
                    await self._forget(name)
                raise

    async def unregister(self, name: str) -> None:
        async with self._change:
            folder = self._known(name)
            del self._folders[name]
            await self._everywhere(UNLOAD, name, folder)

    async def _forget(self, name: str) -> None:
        """Unload an adapter that some workers have loaded and others could not."""
        try:
            await self._everywhere(UNLOAD, name, "")
        except Refusal as refusal:
            log.say(f"adapter {name}: {refusal.message}")

    async def _everywhere(self, what: str, name: str, folder: str) -> None:
        slots = self._broker.present()
        if not slots:
            raise Unavailable(f"No model is ready: {self._broker.health().reason}")
        futures = [self._submit(what, name, folder, slot) for slot in slots]
        _check(await asyncio.gather(*futures), what, name)

    def _submit(self, what: str, name: str, folder: str, slot: int) -> asyncio.Future[Outcome]:
        """Send an instruction to a worker ahead of its requests; return the outcome."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        deadline = time.monotonic() + self._settings.deadline
        meta = {
            "request_id": os.urandom(8).hex(),
            "content_type": "",
            "accept": "",
            "deadline": deadline,
            "adapter": {"what": what, "name": name, "folder": folder},
        }
        self._broker.instruct(slot, meta, setter_of(future))
        return future

    # ── inside ──

    def _known(self, name: str) -> str:
        if name not in self._folders:
            raise UnknownAdapter(f"No adapter {name[:100]!r} is registered")
        return self._folders[name]

    def _folder(self, source: object) -> str:
        """Return the folder of an adapter, which must be below /opt/ml after following links."""
        if not isinstance(source, str) or not source.startswith("/"):
            raise BadInput("src must be the path of the adapter's folder")
        root, shown = self._settings.tree.root, f"src {source[:200]!r}"
        return str(resolved_below(root, Path(source), shown, UnknownAdapter))


def _check(outcomes: Iterable[Outcome], what: str, name: str) -> None:
    for outcome in outcomes:
        error = outcome.meta.get("error")
        if outcome.end is not End.REPLIED:
            raise AdapterFailed(f"Adapter {name}: {what} was not finished ({outcome.end.value})")
        if error is not None and error["status"] == OutOfMemory.status:
            raise OutOfMemory(error["message"])
        if error is not None:
            raise AdapterFailed(f"Adapter {name}: {error['message']}")


async def _parameters(scope: Mapping[str, Any], receive: Receive) -> dict[str, object]:
    """Return the parameters of the query, overridden by those of a JSON body."""
    query = parse_qs(scope["query_string"].decode("latin-1"))
    values = {name: texts[-1] for name, texts in query.items()}
    return {**values, **await read_object(receive)}


def _text(text: str) -> Answer:
    return Answer(200, [(b"Content-Type", b"text/plain; charset=utf-8")], text.encode())
