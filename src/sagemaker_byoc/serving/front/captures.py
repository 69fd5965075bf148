"""The event loop's part of capture: which requests are captured, and what is counted of the others.

Answers of POST /invocations with a status of 2xx are captured, as a whole. Refusals, failures, cut
streams and clients that left are not; neither are chats, other routes of the user's application and
two-way streams.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sagemaker_byoc.contract import http
from sagemaker_byoc.contract.capture import Mode
from sagemaker_byoc.serving import log, media
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.capture.lines import Traffic, named
from sagemaker_byoc.serving.capture.options import CHOSEN, CaptureSettings
from sagemaker_byoc.serving.capture.writer import Writer
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.tickets import End, Outcome, Ticket

DELAY = 0.2
"""Seconds that records wait for others; this much is lost if the process is killed."""
MANY = 2 * 2**20
"""Bytes of records from which they no longer wait."""
INTERVAL = 60.0
"""Seconds between two log lines about dropped records."""
CLOSING = 5.0
"""Seconds for writing the rest at the end, when no request is left."""

QUEUE, SIZE, REDACTION, SKIPPED, ERROR = "queue", "size", "redaction", "skipped", "error"
"""Why a record was not written, apart from disk errors; SKIPPED: redact_fn decided so, ERROR: a
defect of this server."""


class Recorder:
    """Records what is captured; one per server, on the event loop, never waiting."""

    def __init__(self, settings: CaptureSettings, writer: Writer | None = None) -> None:
        self.settings = settings
        self.writer = writer or Writer(settings)
        modes = settings.selection.modes
        self._has_input, self._has_output = (mode in modes for mode in Mode)
        self._share = settings.percentage / 100
        self._waiting: list[Traffic] = []
        self._waiting_size = 0
        self._put = 0
        self._dropped = dict.fromkeys((QUEUE, SIZE, REDACTION, SKIPPED, ERROR), 0)
        self._logged = 0
        self._log_at = 0.0

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.writer.start()

    def takes(self) -> bool:
        """Draw whether the request is captured."""
        return random.random() < self._share  # noqa: S311 - a sample, no secret

    def record(self, traffic: Traffic) -> None:
        """Record a request that was drawn and has been answered."""
        if self._is_too_large(traffic):
            self.drop(SIZE)
            return
        size = traffic.size
        if self._put - self.writer.taken + self._waiting_size + size > self.settings.queue:
            self.drop(QUEUE)
            return
        traffic.time = time.time()
        if not self._waiting:
            self._loop.call_later(DELAY, self._pass_on)
        self._waiting.append(traffic)
        self._waiting_size += size
        if self._waiting_size > MANY:
            self._pass_on()

    def _is_too_large(self, traffic: Traffic) -> bool:
        limit = self.settings.body
        return (self._has_input and traffic.request.size > limit) or (
            self._has_output and traffic.response.size > limit
        )

    def drop(self, reason: str) -> None:
        self._dropped[reason] += 1

    def failed(self, error: Exception) -> None:
        """Count a record that could not be made because of a defect."""
        if not self._dropped[ERROR]:
            log.say(f"capture: a record failed: {log.place_of(error)}")
        self.drop(ERROR)

    def redacted(self, meta: Mapping[str, Any], body: Body) -> None:
        """Record what a worker's redact_fn has returned; `meta` describes it."""
        outcome = meta.get("outcome")
        if outcome is not None:
            self.drop(outcome if outcome in self._dropped else REDACTION)
            return
        try:
            split = int(meta["request_size"])
            request = Body(body.piece(0, split))
            response = Body(body.piece(split, body.size - split))
            types = str(meta["content_type"]), str(meta["reply_type"])
            headers = named(str(meta.get("inference_id", "")))
        except (LookupError, ValueError, TypeError, OSError) as error:
            self.failed(error)
            return
        self.record(Traffic(request, types[0], response, types[1], headers))

    def _pass_on(self) -> None:
        if self._waiting:
            self._put += self._waiting_size
            self.writer.put(self._waiting)
            self._waiting, self._waiting_size = [], 0

    # ── the clock, the figures, the end ──

    def tick(self) -> None:
        """Log the number of dropped records, once per interval."""
        dropped = sum(self.counts().values()) - self._dropped[SKIPPED]
        now = time.monotonic()
        if dropped > self._logged and now >= self._log_at:
            parts = [f"{count} for {reason}" for reason, count in self.counts().items() if count]
            count = dropped - self._logged
            log.say(f"capture: {count} records were not written ({', '.join(parts)} in all)")
            self._logged, self._log_at = dropped, now + INTERVAL

    def counts(self) -> dict[str, int]:
        """Return the number of records that were not written, by reason."""
        return {**self._dropped, "disk": self.writer.lost}

    def gauges(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Return the gauges for /metrics; may be called from any thread."""
        outcomes = {"written": self.writer.written, **self.counts()}
        values = {f'{{outcome="{name}"}}': float(count) for name, count in outcomes.items()}
        waiting = self._put - self.writer.taken + self._waiting_size
        is_paused = float(bool(self.writer.pause))
        return {
            "capture_records_total": ("Captured requests by outcome.", values),
            "capture_queue_bytes": ("Bytes that wait to be written.", {"": float(waiting)}),
            "capture_paused": ("1 while nothing is written.", {"": is_paused}),
        }

    def rotate(self) -> None:
        """Complete the open file: the server is about to end."""
        self._pass_on()
        self.writer.rotate()

    def close(self) -> None:
        self._pass_on()
        if not self.writer.close(CLOSING):
            log.say("capture: the disk is too slow for the rest; its open file is completed later")
        self._log_at = 0.0
        self.tick()


class Captures:
    """The captures of one broker's requests."""

    def __init__(self, recorder: Recorder, broker: Broker) -> None:
        self.recorder = recorder
        self._broker = broker

    def choose(self, meta: dict[str, Any]) -> None:
        """Decide whether the request is captured."""
        path = meta["route"]["path"] if "route" in meta else http.INVOCATIONS.value
        if path == http.INVOCATIONS.value and "chat" not in meta and self.recorder.takes():
            meta[CHOSEN] = True

    def prepare(self, ticket: Ticket, outcome: Outcome) -> Kept | None:
        """Return the reply to capture while it is sent; None if it is not captured here."""
        if not self._is_wanted(ticket, outcome):
            return None
        body = outcome.body
        if body.descriptor is not None:  # it is closed once it is sent
            try:
                body = Body(descriptor=os.dup(body.descriptor), size=body.size)
            except OSError as error:
                self.recorder.failed(error)
                return None
        return Kept(self, ticket, outcome, body)

    def keep(self, ticket: Ticket, outcome: Outcome, reply: Body) -> None:
        """Record a request that has been answered."""
        if not self._is_wanted(ticket, outcome):
            return
        meta = ticket.meta
        reply_type = outcome.meta.get("content_type", media.OCTETS)
        traffic = Traffic(
            ticket.body, meta["content_type"], reply, reply_type, meta.get("headers", {})
        )
        self.recorder.record(traffic)

    def _is_wanted(self, ticket: Ticket, outcome: Outcome) -> bool:
        meta = outcome.meta
        return (
            CHOSEN in ticket.meta
            and not self._broker.has_redact  # then the worker decides what may be kept
            and (outcome.end is End.REPLIED or outcome.end is End.STREAM)
            and "error" not in meta
            and 200 <= meta.get("status", 200) < 300
        )


@dataclass(slots=True)
class Kept:
    """A reply being sent; call `done` once all of it is sent."""

    captures: Captures
    ticket: Ticket
    outcome: Outcome
    body: Body
    pieces: list[bytes] | None = field(default_factory=list)
    """The pieces of a stream; None once they are too large."""

    async def copy(self, stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Yield the stream and keep its pieces."""
        size = 0
        async for piece in stream:
            size += len(piece)
            if size > self.captures.recorder.settings.body:
                self.pieces = None
            elif self.pieces is not None:
                self.pieces.append(piece)
            yield piece

    def done(self) -> None:
        if self.pieces is None:
            self.captures.recorder.drop(SIZE)
            return
        body = Body(b"".join(self.pieces)) if self.outcome.stream is not None else self.body
        self.captures.keep(self.ticket, self.outcome, body)
