"""What is kept of every request: a line in the log, and counts."""

from __future__ import annotations

import time

from sagemaker_byoc.serving.front.broker.tickets import End, Outcome
from sagemaker_byoc.serving.front.http.replies import Call
from sagemaker_byoc.serving.front.telemetry.journal import Journal
from sagemaker_byoc.serving.front.telemetry.metrics import Metrics

CLIENT_GONE = 499
"""In the log and the metrics; nobody is there to read it."""


class Ledger:
    """Log and metrics of the one HTTP process."""

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
