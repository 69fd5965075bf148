"""Two-way streams: a WebSocket on one side, a thread of a model worker on the other.

SageMaker opens one for each InvokeEndpointWithBidirectionalStream. A message is one frame of the
link; both directions have a window, which bounds every queue here.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.error_replies import Refusal, Unavailable
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.slots import KILL_AFTER
from sagemaker_byoc.serving.front.broker.tickets import Lane
from sagemaker_byoc.serving.front.http import requests
from sagemaker_byoc.serving.front.http.replies import Send
from sagemaker_byoc.serving.front.http.requests import Call, Receive
from sagemaker_byoc.serving.front.telemetry import Journal
from sagemaker_byoc.serving.link import ClosedError, Frame, FullError, Kind, Window, body_of
from sagemaker_byoc.serving.settings import Settings

NORMAL, GOING_AWAY, FAILED, TRY_LATER = 1000, 1001, 1011, 1013
"""Close codes of RFC 6455 and its registry; SageMaker passes code and reason to the caller."""
LOST = "The model's process ended"
NO_CLOSE = 1006
"""Used in the log only: the client left without closing."""
REASON = 120
"""Bytes of a reason; a close frame has room for 123."""
FULL_PAUSE, FULL_TIME = 0.005, 10.0
"""Seconds between two attempts to send on a full link, and until the conversation is ended."""
DRAIN = 20.0
"""Seconds that handlers get to finish when the server stops, after their input has ended."""


@dataclass(slots=True, eq=False)
class Conversation:
    """One client's conversation, while its worker's thread runs."""

    id: int
    name: str
    lane: Lane
    window: Window = field(default_factory=Window)
    outgoing: deque[Frame] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    close: tuple[int, str] | None = None
    """Code and reason, once it has ended."""
    cut_at: float | None = None
    aborted_at: float | None = None
    client_code: int = NO_CLOSE
    messages_in: int = 0
    messages_out: int = 0

    def end(self, code: int, reason: str) -> None:
        self.close = self.close or (code, reason)
        self.changed.set()


class Conversations:
    """The conversations of one broker's workers; one event loop owns them."""

    def __init__(self, broker: Broker, settings: Settings, journal: Journal) -> None:
        self._broker = broker
        self._settings = settings
        self._journal = journal
        self._open: dict[int, Conversation] = {}
        self._is_draining = False
        self._prefix = os.urandom(5).hex()
        # Negative, to tell them from requests, which count upwards.
        self._numbers = itertools.count(-1, -1)
        broker.on_talk = self._handle
        broker.on_lost = self._lost

    # ── the client's side ──

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if not self._broker.conversations:
            return  # no handler for it: gunicorn refuses the opening with 403
        await receive()
        await send({"type": "websocket.accept"})
        number = next(self._numbers)
        call = Call(f"{self._prefix}c{-number:06x}", time.monotonic())
        try:
            conversation = self._begin(number, call, scope)
        except Refusal as refusal:
            await _close(send, TRY_LATER, refusal.message)
            return
        code, reason = 0, ""
        try:
            code, reason = await self._carry(conversation, receive, send)
        finally:
            self._leave(conversation)
            self._record(call, conversation, code)
        if code:
            await _close(send, code, reason)

    def _begin(self, number: int, call: Call, scope: Mapping[str, Any]) -> Conversation:
        """Begin a conversation on the worker that has the fewest."""
        if self._is_draining:
            raise Unavailable("The server is stopping")
        counts = {id(lane): 0 for lane in self._broker.lanes()}
        for other in self._open.values():
            counts[id(other.lane)] = counts.get(id(other.lane), 0) + 1
        lanes = [lane for lane in self._broker.lanes() if lane.slot in self._broker.present()]
        lane = min(lanes, key=lambda lane: counts[id(lane)], default=None)
        if lane is None:
            raise Unavailable(f"No model is ready: {self._broker.health().reason}")
        if counts[id(lane)] >= self._settings.conversations:
            raise Unavailable(f"{len(self._open)} conversations are already open")
        meta = requests.Head.of(scope["headers"]).meta_of(call)
        meta["deadline"] = call.began + self._settings.conversation_deadline
        conversation = Conversation(number, call.request_id, lane)
        try:
            lane.talk(Frame(Kind.OPEN, number, meta))
        except ClosedError as error:
            raise Unavailable("The model worker can't take a conversation now") from error
        self._open[number] = conversation
        return conversation

    async def _carry(
        self, conversation: Conversation, receive: Receive, send: Send
    ) -> tuple[int, str]:
        """Carry messages until one side ends the conversation; return close code and reason, or 0
        if the client closed it."""
        tasks = {
            asyncio.create_task(self._inwards(conversation, receive)),
            asyncio.create_task(self._outwards(conversation, send)),
        }
        timeout = self._settings.conversation_deadline
        done, rest = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        if not done:
            return GOING_AWAY, f"It took longer than {timeout:g} s"
        return done.pop().result()

    async def _inwards(self, conversation: Conversation, receive: Receive) -> tuple[int, str]:
        while True:
            while not conversation.window.is_open:
                await self._change(conversation)
            message = await receive()
            if message["type"] == "websocket.disconnect":
                conversation.client_code = message.get("code", NO_CLOSE)
                return 0, ""
            text = message.get("text")
            data = message["bytes"] if text is None else text.encode()
            conversation.window.sent(len(data))
            conversation.messages_in += 1
            meta = {} if text is None else {"text": 1}
            frame = Frame(Kind.MESSAGE, conversation.id, meta, body_of(data))
            await self._talk(conversation, frame)

    async def _talk(self, conversation: Conversation, frame: Frame) -> None:
        """Send a message; wait for room on the link, which other conversations may have filled."""
        until = time.monotonic() + FULL_TIME
        while conversation.close is None:
            try:
                conversation.lane.talk(frame)
            except FullError:
                if time.monotonic() > until:
                    conversation.end(FAILED, "The model worker accepts no messages")
                await asyncio.sleep(FULL_PAUSE)
            except ClosedError:
                conversation.end(FAILED, LOST)
            else:
                return

    async def _outwards(self, conversation: Conversation, send: Send) -> tuple[int, str]:
        while True:
            while conversation.outgoing:
                frame = conversation.outgoing.popleft()
                data = frame.body.piece(0, frame.body.size)
                key, value = ("text", data.decode()) if frame.meta.get("text") else ("bytes", data)
                try:
                    await send({"type": "websocket.send", key: value})
                except OSError:
                    return 0, ""
                conversation.messages_out += 1
                await self._talk(conversation, Frame(Kind.TAKEN, conversation.id))
            if conversation.close is not None:
                return conversation.close
            await self._change(conversation)

    async def _change(self, conversation: Conversation) -> None:
        conversation.changed.clear()
        await conversation.changed.wait()

    def _leave(self, conversation: Conversation) -> None:
        """Tell the worker that the client has left; its thread may still have to notice."""
        if conversation.id in self._open and conversation.cut_at is None:
            conversation.cut_at = time.monotonic()
            conversation.lane.cancel(conversation.id)

    def _record(self, call: Call, conversation: Conversation, code: int) -> None:
        self._journal.record(
            {
                "event": "conversation",
                "close_code": code or conversation.client_code,
                "messages_in": conversation.messages_in,
                "messages_out": conversation.messages_out,
                "total_ms": round(1000 * (time.monotonic() - call.began), 3),
                "request_id": call.request_id,
                **({"inference_id": call.inference_id} if call.inference_id else {}),
            }
        )

    # ── the worker's side ──

    def _handle(self, lane: Lane, frame: Frame) -> None:
        conversation = self._open.get(frame.id)
        if conversation is None or conversation.lane is not lane:
            return  # it has ended here already
        if frame.kind is Kind.MESSAGE:
            conversation.outgoing.append(frame)
        elif frame.kind is Kind.TAKEN:
            conversation.window.taken()
        else:
            del self._open[frame.id]
            error = frame.meta.get("error")
            conversation.end(*self._reason_of(error))
        conversation.changed.set()

    def _reason_of(self, error: object) -> tuple[int, str]:
        if error is not None:
            return FAILED, str(error)
        return (GOING_AWAY, "The server is stopping") if self._is_draining else (NORMAL, "")

    def _lost(self, lane: Lane) -> None:
        """End the conversation: its worker has ended, or takes no more requests."""
        for number, conversation in list(self._open.items()):
            if conversation.lane is lane:
                del self._open[number]
                lane.cancel(number)
                conversation.end(FAILED, LOST)

    # ── the clock, and the end ──

    def tick(self) -> None:
        """End a worker whose thread runs long after its client has left."""
        now = time.monotonic()
        for conversation in self._open.values():
            if conversation.cut_at is None:
                continue
            conversation.lane.cancel(conversation.id)  # the link may have been full before
            if conversation.aborted_at is None:
                if now > conversation.cut_at + self._settings.stuck_grace:
                    log.say(f"conversation {conversation.name}: its handler does not end")
                    conversation.aborted_at = now
                    conversation.lane.abort()
            elif now > conversation.aborted_at + KILL_AFTER:
                conversation.lane.kill()

    async def drain(self) -> None:
        """End all input and give handlers a while to finish."""
        self._is_draining = True
        for conversation in self._open.values():
            await self._talk(conversation, Frame(Kind.END, conversation.id))
        until = time.monotonic() + DRAIN
        while self._open and time.monotonic() < until:
            await asyncio.sleep(0.02)
        for conversation in list(self._open.values()):
            conversation.end(GOING_AWAY, "The server is stopping")


async def _close(send: Send, code: int, reason: str) -> None:
    short = reason.encode()[:REASON].decode(errors="ignore")
    await send({"type": "websocket.close", "code": code, "reason": short})
