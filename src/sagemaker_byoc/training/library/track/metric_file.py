"""The metrics file: JSON lines in $SAGEMAKER_METRICS_DIRECTORY/<pid>.json.

Shape: sagemaker-experiments, smexperiments/metrics.py, which smdebug writes too. A line's time must
lie between 14 days before and 2 hours after it is read. Without the variable there is no file.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sagemaker_byoc.training.library.track.sink import Row

DIRECTORY = "SAGEMAKER_METRICS_DIRECTORY"


class MetricFile:
    """Whole lines in one write, so that a kill leaves no half one."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> MetricFile | None:
        folder = environ.get(DIRECTORY)
        return cls(Path(folder) / f"{os.getpid()}.json") if folder else None

    def write(self, rows: Sequence[Row]) -> None:
        if self._descriptor is not None:
            os.write(self._descriptor, "".join(map(lines, rows)).encode())

    def close(self, seconds: float) -> None:  # noqa: ARG002 - nothing is kept
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def lines(row: Row) -> str:
    """Numbers only: the reader knows no NaN. JSON by hand, since this is done in each step."""
    tail = f', "Timestamp": {row.time!r}, "IterationNumber": {row.step}}}\n'
    return "".join(
        [
            f'{{"MetricName": {_quoted(name)}, "Value": {float(value)!r}{tail}'
            for name, value in row.values.items()
            if math.isfinite(value)
        ]
    )


@functools.lru_cache(4096)
def _quoted(name: str) -> str:
    return json.dumps(name)
