"""One request to the model: admission, body, the broker, reply, and one line in the log.

A small request that has arrived whole is begun by `start` and answered by a callback: no task of
the event loop waits for it. All others run as an ASGI application, `__call__`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sagemaker_byoc.serving import log, wsgi
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.error_replies import (
    PayloadTooLarge,
    Refusal,
    SlowUpload,
    UnsupportedCoding,
    WorkerLost,
)
from sagemaker_byoc.serving.front.broker.admission import Permit
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.sessions import Sessions
from sagemaker_byoc.serving.front.broker.tickets import (
    End,
    Outcome,
    StreamCutError,
    Ticket,
    setter_of,
)
from sagemaker_byoc.serving.front.captures import Captures, Recorder
from sagemaker_byoc.serving.front.http import replies
from sagemaker_byoc.serving.front.http.adapters import Adapters
from sagemaker_byoc.serving.front.http.replies import Answer, Send
from sagemaker_byoc.serving.front.http.requests import (
    DRAIN_TIME,
    Call,
    Head,
    Receive,
    drain,
    read_body,
)
from sagemaker_byoc.serving.front.telemetry import CLIENT_GONE, Ledger
from sagemaker_byoc.serving.settings import Settings

REFUSAL_TIMEOUT = 1.0
"""Seconds to read the rest of a refused body, so that the client can read the refusal."""


@dataclass(slots=True)
class Unsent:
    """An outcome that takes a while to send: a stream or a file."""

    call: Call
    permit: Permit
    ticket: Ticket
    outcome: Outcome


class Connection(Protocol):
    """Receives the result of `start`: exactly one of the two is called, unless the client has
    left."""

    def reply(self, answer: Answer) -> None:
        """Send the whole answer."""

    def hand_over(self, unsent: Unsent) -> None:
        """Let a task call `send_rest`."""


class Invocations:
    """What all requests to the model share."""

    def __init__(
        self,
        broker: Broker,
        settings: Settings,
        ledger: Ledger,
        recorder: Recorder | None = None,
    ) -> None:
        self.broker = broker
        self.adapters: Adapters | None = None
        self.sessions: Sessions | None = None
        if settings.sessions:
            most, seconds = settings.sessions, settings.session_seconds
            self.sessions = Sessions(broker, most=most, seconds=seconds)
        self._settings = settings
        self._ledger = ledger
        self._captures = None if recorder is None else Captures(recorder, broker)
        self._prefix = os.urandom(5).hex()
        self._numbers = itertools.count(1)

    def _new_call(self) -> Call:
        return Call(f"{self._prefix}{next(self._numbers):07x}", time.monotonic())

    def _submit(
        self,
        call: Call,
        meta: dict[str, Any],
        body: Body,
        done: Callable[[Ticket, Outcome], None],
        slot: int | None,
    ) -> Ticket:
        call.bytes_in = body.size
        deadline = meta["deadline"] = call.began + self._settings.deadline
        if self._captures is not None:
            self._captures.choose(meta)
        meta["stream_deadline"] = call.began + self._settings.stream_deadline
        return self.broker.submit(meta, body, deadline, done, slot)

    def _pin(self, meta: dict[str, Any]) -> int | None:
        """Return the slot of the request's session, if it has one, and check its adapter."""
        if self.broker.has_adapters and self.adapters is not None:
            self.adapters.check(meta)
        return self.sessions.pin(meta) if self.sessions is not None else None

    def _answer(self, unsent: Unsent) -> Answer:
        answer = replies.answer_of(unsent.call, unsent.outcome)
        if self.sessions is not None:
            self.sessions.finish(unsent.ticket, unsent.outcome, answer)
        return answer

    # ── without a task ──

    def start(self, head: Head, data: bytes, connection: Connection) -> Ticket | None:
        """Begin a small request that has arrived whole; return None if it is refused."""
        call = self._new_call()
        meta = head.meta_of(call)
        permit: Permit | None = None
        try:
            slot = self._pin(meta)
            if slot is None and self.sessions is not None:
                slot = self.sessions.pin_new(meta, Body(data))
            permit = self.broker.admit()
            permit.hold(len(data))
        except Refusal as refusal:
            if permit is not None:
                permit.release()
            answer = replies.refused(refusal, call.request_id)
            self._ledger.record(call, answer.status, len(answer.data))
            connection.reply(answer)
            return None

        def done(ticket: Ticket, outcome: Outcome) -> None:
            self._finish(Unsent(call, permit, ticket, outcome), connection)

        return self._submit(call, meta, Body(data), done, slot)

    def _finish(self, unsent: Unsent, connection: Connection) -> None:
        call, outcome = unsent.call, unsent.outcome
        if outcome.stream is not None or outcome.body.descriptor is not None:
            connection.hand_over(unsent)
            return
        unsent.permit.release()
        if outcome.end is End.ABANDONED:
            self._ledger.record(call, CLIENT_GONE, 0)
            return
        try:
            answer = self._answer(unsent)
        except Exception as error:  # noqa: BLE001 - a defect of ours must not affect others
            log.say(replies.traceback_of(error, call.request_id))
            answer = replies.refused(Refusal(replies.DEFECT), call.request_id)
        connection.reply(answer)
        self._ledger.record(call, answer.status, len(answer.data), outcome)
        if self._captures is not None:
            self._captures.keep(unsent.ticket, outcome, outcome.body)

    def drop(self, unsent: Unsent) -> None:
        """Release an outcome whose client left before a task could send it."""
        self.broker.abandon(unsent.ticket)
        unsent.permit.release()
        self._ledger.record(unsent.call, CLIENT_GONE, 0)

    async def send_rest(self, unsent: Unsent, send: Send) -> None:
        """Send the outcome that was passed to `hand_over`."""
        await self._guarded(unsent.call, unsent.permit, send, self._send(unsent, send))

    # ── as a task ──

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Receive,
        send: Send,
        *,
        is_route: bool = False,
        is_chat: bool = False,
    ) -> None:
        """Answer one request, whatever happens to it.

        `is_route` marks a request for the user's own application, `is_chat` one for `chat_fn`.
        """
        call = self._new_call()
        call.model = self.broker.model
        head = Head.of(scope["headers"])
        meta = head.meta_of(call)
        if is_route:
            meta["route"] = wsgi.Request.of_scope(scope).to_dict()
        if is_chat:
            meta["chat"] = True
        try:
            permit = self.broker.arrive()
        except Refusal as refusal:
            await self._refuse(call, refusal, send)
            if not head.expects:  # else reading would ask the client to send it all
                await drain(receive, 0, REFUSAL_TIMEOUT)
            return
        running = self._run(call, head, meta, permit, receive, send)
        await self._guarded(call, permit, send, running)

    async def _guarded(self, call: Call, permit: Permit, send: Send, running: Any) -> None:
        try:
            await running
        except asyncio.CancelledError:
            self._ledger.record(call, CLIENT_GONE, 0)
            raise
        except StreamCutError as error:
            log.say(f"request {call.request_id}: its stream was cut: {error}")
            self._ledger.record(call, WorkerLost.status, 0)
            # This makes gunicorn close the connection without the last chunk, and without a log.
            raise asyncio.CancelledError from error
        except Exception as error:  # noqa: BLE001 - a defect of ours: the log gets it
            log.say(replies.traceback_of(error, call.request_id))
            await self._refuse(call, Refusal(replies.DEFECT), send)
        finally:
            permit.release()

    async def _run(  # noqa: PLR0913, PLR0917 - what __call__ knows
        self,
        call: Call,
        head: Head,
        meta: dict[str, Any],
        permit: Permit,
        receive: Receive,
        send: Send,
    ) -> None:
        try:
            slot = self._pin(meta)
            body = await read_body(
                receive,
                length=head.length,
                limit=self._settings.payload,
                deadline=call.began + self._settings.deadline,
                permit=permit,
                codings=() if "route" in meta else head.codings,
            )
            if slot is None and self.sessions is not None:
                slot = self.sessions.pin_new(meta, body)
            self.broker.enter(permit)
        except Refusal as refusal:
            permit.release()
            await self._refuse(call, refusal, send)
            if not _is_early(head, refusal):
                await drain(receive, self._settings.payload, DRAIN_TIME)
            return
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        ticket = self._submit(call, meta, body, setter_of(future), slot)
        del body  # the ticket's, so that its memory goes with it
        try:
            outcome = await future
        except asyncio.CancelledError:
            self.broker.abandon(ticket)
            raise
        await self._send(Unsent(call, permit, ticket, outcome), send)

    async def _send(self, unsent: Unsent, send: Send) -> None:
        call, outcome = unsent.call, unsent.outcome
        answer = self._answer(unsent)
        size = outcome.body.size or len(answer.data)
        kept = None if self._captures is None else self._captures.prepare(unsent.ticket, outcome)
        task = asyncio.current_task()
        if outcome.stream is None and task is not None:
            unsent.permit.leave(size, task.cancel)
            if kept is None:
                unsent.ticket.body = Body()  # nobody needs the request's any more
        try:
            if outcome.stream is not None:
                stream = outcome.stream if kept is None else kept.copy(outcome.stream)
                size = await replies.send_stream(send, answer, stream)
            elif outcome.body.descriptor is not None:
                await replies.send_file(send, answer, outcome.body)
            else:
                await replies.send_answer(send, answer)
        except asyncio.CancelledError:
            self.broker.abandon(unsent.ticket)
            raise
        self._ledger.record(call, answer.status, size, outcome)
        if kept is not None:
            kept.done()

    async def _refuse(self, call: Call, refusal: Refusal, send: Send) -> None:
        answer = replies.refused(refusal, call.request_id)
        self._ledger.record(call, answer.status, len(answer.data))
        await replies.send_answer(send, answer)


def _is_early(head: Head, refusal: Refusal) -> bool:
    """Return whether the rest of the body is not worth reading: its client is too slow, or was
    refused by the head alone and so was never asked for the body."""
    if isinstance(refusal, SlowUpload):
        return True
    is_from_head = isinstance(refusal, PayloadTooLarge | UnsupportedCoding)
    return head.expects and head.length is not None and is_from_head
