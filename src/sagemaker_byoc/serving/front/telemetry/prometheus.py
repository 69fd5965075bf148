"""What /metrics reports: counters and histograms, gauges, and nvidia-smi's figures of the GPUs.

The text is Prometheus's (format 0.0.4). Gauges are read when they are asked for, on one of Flask's
threads and not on the broker's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from sagemaker_byoc.serving.front.broker.broker import Broker
from sagemaker_byoc.serving.front.broker.tickets import Lane

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
    waiting = sum(len(broker.waiting) for broker in brokers)
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
