"""The event loop's part of capture: which requests, what may wait, what is said of the rest.

A request costs it a draw and an entry in a list. Lists go to the writer's thread, which does all
else: docs/decisions/0017.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any

from sagemaker_byoc.contract.hosting.capture import Mode
from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.bodies import Body
from sagemaker_byoc.serving.capture.lines import Traffic, named
from sagemaker_byoc.serving.capture.options import CaptureSettings
from sagemaker_byoc.serving.capture.writer import Writer

DELAY = 0.2
"""Seconds that records wait for others; what is lost if this process is killed."""
MANY = 2 * 2**20
"""Bytes that do not wait."""
INTERVAL = 60.0
"""Seconds between two lines in the log about what was dropped."""
CLOSING = 5.0
"""Seconds that the disk gets at the end, when no request is left."""

QUEUE, SIZE, REDACTION, SKIPPED, ERROR = "queue", "size", "redaction", "skipped", "error"
"""Why a record was not written, beside the disk; SKIPPED is redact_fn's wish, ERROR our defect."""


class Recorder:
    """One a server. Everything on the event loop, nothing waits."""

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
        self._told = 0
        self._tell_at = 0.0

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.writer.start()

    def takes(self) -> bool:
        """Whether the request that has come is one of those."""
        return random.random() < self._share  # noqa: S311 - a sample, no secret

    def record(self, traffic: Traffic) -> None:
        """One that was taken has been answered."""
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
        """A record could not be made, for no fault of the traffic's."""
        if not self._dropped[ERROR]:
            log.say(f"capture: a record failed: {log.place_of(error)}")
        self.drop(ERROR)

    def redacted(self, meta: Mapping[str, Any], body: Body) -> None:
        """A worker's redact_fn has been at it; `meta` has what became of it."""
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

    # ── the clock, what is said, the end ──

    def tick(self) -> None:
        """Tell about what was dropped, once an interval."""
        dropped = sum(self.counts().values()) - self._dropped[SKIPPED]
        now = time.monotonic()
        if dropped > self._told and now >= self._tell_at:
            parts = [f"{count} for {reason}" for reason, count in self.counts().items() if count]
            count = dropped - self._told
            log.say(f"capture: {count} records were not written ({', '.join(parts)} in all)")
            self._told, self._tell_at = dropped, now + INTERVAL

    def counts(self) -> dict[str, int]:
        """Records that were not written, by the reason."""
        return {**self._dropped, "disk": self.writer.lost}

    def gauges(self) -> dict[str, tuple[str, dict[str, float]]]:
        """For /metrics; from any thread."""
        outcomes = {"written": self.writer.written, **self.counts()}
        values = {f'{{outcome="{name}"}}': float(count) for name, count in outcomes.items()}
        waiting = self._put - self.writer.taken + self._waiting_size
        is_paused = float(bool(self.writer.pause))
        return {
            "capture_records_total": ("Captured requests by what became of them.", values),
            "capture_queue_bytes": ("Bytes that wait for the disk.", {"": float(waiting)}),
            "capture_paused": ("1 while the disk takes nothing.", {"": is_paused}),
        }

    def rotate(self) -> None:
        """Complete what is there: the server is about to end."""
        self._pass_on()
        self.writer.rotate()

    def close(self) -> None:
        self._pass_on()
        if not self.writer.close(CLOSING):
            log.say("capture: the disk is too slow for the rest; its open file is completed later")
        self._tell_at = 0.0
        self.tick()
