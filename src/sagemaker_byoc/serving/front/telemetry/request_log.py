"""What is recorded of every request: a line in the log, and counts.

The log has one JSON line per request. A thread writes it, so that a slow reader of the log cannot
hold up the event loop; lines wait for a moment and are written together.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Mapping

import orjson

from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.front.broker.tickets import End, Outcome
from sagemaker_byoc.serving.front.http.requests import Call
from sagemaker_byoc.serving.front.telemetry.prometheus import Metrics

DELAY = 0.05
"""Seconds that a line may wait; this much is lost if the process is killed."""
MOST = 8 * 2**20
"""Bytes that may wait for a slow reader of the log; further lines are counted and dropped."""


class Journal:
    """The request log: the event loop adds lines, one thread writes them."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._passed = 0
        self._written = 0  # by the thread alone
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread.start()

    def record(self, event: Mapping[str, object]) -> None:
        if not self._lines:
            self._loop.call_later(DELAY, self._pass_on)
        self._lines.append(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Write everything, waiting at most one second for the reader."""
        self._pass_on()
        self._queue.put(None)
        self._thread.join(1.0)

    def _pass_on(self) -> None:
        lines, self._lines = self._lines, []
        data = b"".join(lines)
        if self._passed - self._written + len(data) > MOST:
            self._dropped += len(lines)
            return
        if self._dropped:
            note = {"event": "log_lines_dropped", "count": self._dropped}
            data = orjson.dumps(note, option=orjson.OPT_APPEND_NEWLINE) + data
            self._dropped = 0
        self._passed += len(data)
        self._queue.put(data)

    def _write(self) -> None:
        while (data := self._queue.get()) is not None:
            log.write(log.STDOUT, data)
            self._written += len(data)


CLIENT_GONE = 499
"""Status used in the log and the metrics only: the client has left."""


class Ledger:
    """Records every request in the log and in the metrics."""

    def __init__(self, metrics: Metrics, journal: Journal) -> None:
        self._metrics = metrics
        self._journal = journal

    def record(self, call: Call, status: int, size: int, outcome: Outcome | None = None) -> None:
        total = time.monotonic() - call.began
        self._journal.record(_event(call, status, size, total, outcome))
        metrics = self._metrics
        metrics.count(status, call.bytes_in, size)
        stages = metrics.stages
        stages["total"].observe(total)
        if outcome is not None and outcome.end is End.REPLIED:
            stages["queue"].observe(outcome.queued)
            for name, seconds in outcome.meta.get("times", {}).items():
                stages[name].observe(seconds)


def _event(
    call: Call, status: int, size: int, total: float, outcome: Outcome | None
) -> dict[str, object]:
    event: dict[str, object] = {
        "event": "invocation",
        "status": status,
        "bytes_in": call.bytes_in,
        "bytes_out": size,
        "queue_ms": 0.0,
        "handler_ms": 0.0,
        "total_ms": round(1000 * total, 3),
        "request_id": call.request_id,
    }
    if outcome is not None:
        event["queue_ms"] = round(1000 * outcome.queued, 3)
        event["handler_ms"] = round(1000 * outcome.ran, 3)
        batch = outcome.meta.get("batch")
        if batch:
            event["batch"] = batch
    if call.model:
        event["model"] = call.model
    if call.inference_id:
        event["inference_id"] = call.inference_id
    return event
