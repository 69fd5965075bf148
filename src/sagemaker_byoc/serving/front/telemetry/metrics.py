"""Counters and histograms of the one HTTP process, as Prometheus text (format 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (
    *(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
STAGES = ("queue", "decode", "predict", "encode", "total")
PREFIX = "byoc_"


class Histogram:
    """Observations by upper bound."""

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
    """What has happened since this process started."""

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
        """Everything; `gauges` are name → (help, value by labels), read at this moment."""
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
