"""Where an invocation's request and reply are seen together: what of them is captured.

Captured are answers of POST /invocations with a status of 2xx, as a whole. Refusals, failures,
streams that were cut and clients that left are not; neither are chats, other routes of the user's
app and two-way streams.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from sagemaker_byoc.contract.hosting import http
from sagemaker_byoc.serving import media
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.capture.lines import Traffic
from sagemaker_byoc.serving.capture.recorder import SIZE, Recorder
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.tickets import End, Outcome, Ticket

CHOSEN = "capture"
"""Key of the metadata of a request that was drawn; workers with a redact_fn act on it."""


class Captures:
    """Of one broker's requests."""

    def __init__(self, recorder: Recorder, broker: Broker) -> None:
        self._recorder = recorder
        self._broker = broker

    def choose(self, meta: dict[str, Any]) -> None:
        """Decide for the request that has come."""
        path = meta["route"]["path"] if "route" in meta else http.INVOCATIONS.value
        if path == http.INVOCATIONS.value and "chat" not in meta and self._recorder.takes():
            meta[CHOSEN] = True

    def prepare(self, ticket: Ticket, outcome: Outcome) -> Kept | None:
        """Before a reply is sent that takes a while; None if it is not captured here."""
        if not self._is_wanted(ticket, outcome):
            return None
        body = outcome.body
        if body.descriptor is not None:  # it is closed once it is sent
            try:
                body = Body(descriptor=os.dup(body.descriptor), size=body.size)
            except OSError as error:
                self._recorder.failed(error)
                return None
        return Kept(self, ticket, outcome, body)

    def keep(self, ticket: Ticket, outcome: Outcome, reply: Body) -> None:
        """It has been answered."""
        if not self._is_wanted(ticket, outcome):
            return
        meta = ticket.meta
        reply_type = outcome.meta.get("content_type", media.OCTETS)
        traffic = Traffic(
            ticket.body, meta["content_type"], reply, reply_type, meta.get("headers", {})
        )
        self._recorder.record(traffic)

    def _is_wanted(self, ticket: Ticket, outcome: Outcome) -> bool:
        meta = outcome.meta
        return (
            CHOSEN in ticket.meta
            and not self._broker.has_redact  # then the worker says what may be kept of it
            and (outcome.end is End.REPLIED or outcome.end is End.STREAM)
            and "error" not in meta
            and 200 <= meta.get("status", 200) < 300
        )

    @property
    def limit(self) -> int:
        """Bytes of a body."""
        return self._recorder.settings.body

    def too_large(self) -> None:
        self._recorder.drop(SIZE)


@dataclass(slots=True)
class Kept:
    """A reply on its way; `done` once all of it has gone."""

    captures: Captures
    ticket: Ticket
    outcome: Outcome
    body: Body
    pieces: list[bytes] | None = field(default_factory=list)
    """Of a stream; None once it is too much."""

    async def copy(self, stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The stream itself, remembered while it passes."""
        size = 0
        async for piece in stream:
            size += len(piece)
            if size > self.captures.limit:
                self.pieces = None
            elif self.pieces is not None:
                self.pieces.append(piece)
            yield piece

    def done(self) -> None:
        if self.pieces is None:
            self.captures.too_large()
            return
        body = Body(b"".join(self.pieces)) if self.outcome.stream is not None else self.body
        self.captures.keep(self.ticket, self.outcome, body)
