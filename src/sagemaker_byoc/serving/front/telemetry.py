"""What is recorded of requests: one line each in the log, and the figures that /metrics reports.

A thread writes the log's lines of JSON, so that a slow reader of the log cannot hold up the event
loop; lines wait for a moment and are written together. The text of /metrics has Prometheus's format
0.0.4. Gauges are read when it is requested, on one of Flask's threads and not on the broker's.
"""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
import subprocess
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import orjson

from sagemaker_byoc.serving import log
from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.tickets import End, Lane, Outcome
from sagemaker_byoc.serving.front.http.requests import Call

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (
    *(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
STAGES = ("queue", "decode", "predict", "encode", "total")
PREFIX = "byoc_"


class Histogram:
    """A histogram: observations by upper bound."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str, label: str = "") -> Iterable[str]:
        total = 0
        start = f"{label}," if label else ""
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{{start}le="{bound}"}} {total}'
        braces = f"{{{label}}}" if label else ""
        yield f"{name}_sum{braces} {self.sum:.9g}"
        yield f"{name}_count{braces} {total}"


class Metrics:
    """Counters and histograms since this process started."""

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.stages = {name: Histogram(SECONDS) for name in STAGES}
        self.batch = Histogram(SIZES)
        self.bytes_in = 0
        self.bytes_out = 0

    def count(self, status: int, bytes_in: int, bytes_out: int) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out

    def text(self, gauges: Mapping[str, tuple[str, Mapping[str, float]]]) -> str:
        """Return all metrics as text; `gauges` maps a name to its help and its values by labels."""
        lines = _head("requests_total", "counter", "Requests to the model by status.")
        lines += [
            f'{PREFIX}requests_total{{status="{status}"}} {count}'
            for status, count in sorted(self.statuses.items())
        ]
        lines += _head("request_bytes_total", "counter", "Bytes of requests and of replies.")
        lines.append(f'{PREFIX}request_bytes_total{{direction="in"}} {self.bytes_in}')
        lines.append(f'{PREFIX}request_bytes_total{{direction="out"}} {self.bytes_out}')
        lines += _head("request_seconds", "histogram", "Time of requests by stage.")
        for stage, histogram in self.stages.items():
            lines += histogram.lines(f"{PREFIX}request_seconds", f'stage="{stage}"')
        lines += _head("batch_size", "histogram", "Requests that ran as one batch.")
        lines += self.batch.lines(f"{PREFIX}batch_size")
        for name, (text, values) in gauges.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += _head(name, kind, text)
            lines += [f"{PREFIX}{name}{labels} {value:g}" for labels, value in values.items()]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {PREFIX}{name} {text}", f"# TYPE {PREFIX}{name} {kind}"]


_PAGE = os.sysconf("SC_PAGE_SIZE")


Gauges: TypeAlias = "dict[str, tuple[str, dict[str, float]]]"


def read_gauges(brokers: Sequence[Broker], *, is_ready: bool) -> Gauges:
    """Return the gauges of all models together, and the memory of each worker."""
    resident = {
        _labels(broker, lane): float(_resident(lane.pid))
        for broker in brokers
        for lane in broker.lanes()
    }
    waiting = sum(broker.queued() for broker in brokers)
    arriving = sum(broker.admission.arriving for broker in brokers)
    in_flight = arriving + sum(broker.admission.requests for broker in brokers)
    rooms = {id(broker.admission.room): broker.admission.room for broker in brokers}.values()
    held = sum(room.held + room.leaving for room in rooms)
    ready = sum(len(broker.present()) for broker in brokers)
    restarts = sum(broker.restarts for broker in brokers)
    return {
        "ready": ("1 when /ping answers 200.", {"": float(is_ready)}),
        "workers_ready": ("Model workers that can answer.", {"": float(ready)}),
        "queue_depth": ("Requests that wait for a worker.", {"": float(waiting)}),
        "requests_in_flight": ("Requests admitted.", {"": float(in_flight)}),
        "bodies_arriving": (
            "Admitted requests whose body is still arriving.",
            {"": float(arriving)},
        ),
        "bytes_in_flight": (
            "Bytes of admitted bodies and of replies being sent.",
            {"": float(held)},
        ),
        "worker_restarts_total": ("Workers restarted.", {"": float(restarts)}),
        "worker_resident_bytes": ("Memory of the model workers.", resident),
        "front_resident_bytes": ("Memory of the HTTP process.", {"": float(_resident("self"))}),
    }


def _labels(broker: Broker, lane: Lane) -> str:
    if not broker.model:
        return f'{{slot="{lane.slot}"}}'
    name = broker.model.replace("\\", "\\\\").replace('"', '\\"')
    return f'{{model="{name}"}}'


def _resident(pid: int | str) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0  # it has just ended


GPU_QUERY = ("utilization.gpu", "memory.used", "memory.total", "temperature.gpu")
GPU_TIMEOUT = 2.0
MIB = 2**20
GPU_SCALES = (0.01, MIB, MIB, 1.0)
GPU_GAUGES = (
    ("gpu_utilization_ratio", "Share of the last sampling period in which a kernel ran."),
    ("gpu_memory_used_bytes", "Memory of the GPU in use, by any process."),
    ("gpu_memory_total_bytes", "Memory of the GPU."),
    ("gpu_temperature_celsius", "Temperature of the GPU."),
)


def read_gpus() -> dict[str, tuple[str, dict[str, float]]]:
    """Return gauges by GPU; empty if nvidia-smi is missing or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, f"--query-gpu=index,{','.join(GPU_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=GPU_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_gpus(answer.stdout)


def parse_gpus(text: str) -> dict[str, tuple[str, dict[str, float]]]:
    """Parse nvidia-smi's answer; a value that a GPU does not have is `[N/A]` and is left out."""
    found: dict[str, tuple[str, dict[str, float]]] = {
        name: (help_, {}) for name, help_ in GPU_GAUGES
    }
    for line in text.splitlines():
        index, *values = (part.strip() for part in line.split(","))
        for (name, _), scale, value in zip(GPU_GAUGES, GPU_SCALES, values, strict=False):
            try:
                found[name][1][f'{{gpu="{index}"}}'] = float(value) * scale
            except ValueError:
                continue
    return {name: entry for name, entry in found.items() if entry[1]}


# ── the log ──

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
