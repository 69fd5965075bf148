"""The metrics file: JSON lines in $SAGEMAKER_METRICS_DIRECTORY/<pid>.json.

Shape: sagemaker-experiments, smexperiments/metrics.py, which smdebug writes too. A line's time must
lie between 14 days before and 2 hours after it is read. Without the variable there is no file.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sagemaker_byoc.contract.variables import METRICS_DIRECTORY
from sagemaker_byoc.training.library.appending import Appender
from sagemaker_byoc.training.library.track.sink import Row


class MetricFile:
    def __init__(self, path: Path) -> None:
        self._file = Appender(path)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> MetricFile | None:
        folder = environ.get(METRICS_DIRECTORY)
        return cls(Path(folder) / f"{os.getpid()}.json") if folder else None

    def write(self, rows: Sequence[Row]) -> None:
        self._file.write("".join([lines(row) for row in rows]).encode())

    def close(self, seconds: float) -> None:  # noqa: ARG002 - nothing is kept
        self._file.close()


def lines(row: Row) -> str:
    """Numbers only: the reader knows no NaN. JSON by hand, since this is done in each step."""
    tail = f', "Timestamp": {row.time!r}, "IterationNumber": {row.step}}}\n'
    return "".join(
        [
            f"{_head(name)}{value!r}{tail}"
            for name, value in row.values.items()
            if value - value == 0
        ]
    )


@functools.lru_cache(4096)
def _head(name: str) -> str:
    return f'{{"MetricName": {json.dumps(name)}, "Value": '
