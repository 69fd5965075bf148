"""What a job's output folder keeps for `byoc runs`: the log, the metrics of its lines, a record.

The metrics have the format of a program that tracks them with the training library.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from sagemaker_byoc.contract.masking import MASK, is_secret
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters, as_text
from sagemaker_byoc.contract.training.metric_definitions import parse_line
from sagemaker_byoc.contract.training.runs import METRICS_FILE, RUN_FILE, RunRecord
from sagemaker_byoc.contract.variables import CODE_COMMIT, CODE_REPOSITORY
from sagemaker_byoc.standalone.training_job import TrainingRequest, TrainingResult

LOG_FILE = "train.log"
MOST_CHARACTERS = 64 << 20
"""Most characters that are kept, of the log and of the metrics each."""
SEARCHED = 2048
"""Characters of a line that are searched for metrics."""


class Transcript:
    """The log and the metrics. Files are opened by the first line: a refused job leaves none.

    A full disk does not end the job; `problem` then says what is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.log = folder / LOG_FILE
        self.problem = ""
        self._metrics = folder / METRICS_FILE
        self._files: dict[Path, TextIO] = {}
        self._left = dict.fromkeys((self.log, self._metrics), MOST_CHARACTERS)

    def write(self, line: str) -> None:
        self._write(self.log, line)
        if values := parse_line(line[:SEARCHED]):
            self._write(self._metrics, json.dumps(values))

    def close(self) -> None:
        for file in self._files.values():
            with suppress(OSError):
                file.close()
        self._files.clear()
        with suppress(OSError):
            if not self._metrics.stat().st_size:
                self._metrics.unlink()

    def _write(self, path: Path, line: str) -> None:
        if self.problem:
            return
        try:
            if not self._files:
                self._open()
            if self._left[path] > 0:
                self._left[path] -= len(line) + 1
                is_full = self._left[path] <= 0
                self._files[path].write("… the rest was not kept\n" if is_full else f"{line}\n")
        except OSError as error:
            self.problem = f"{path}: {error.strerror}"

    def _open(self) -> None:
        """Open both files, replacing those of an earlier job."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        for path in self._left:
            self._files[path] = open(  # noqa: SIM115 - closed by `close`
                path, "w", encoding="utf-8", errors="backslashreplace", buffering=1
            )


def write_record(request: TrainingRequest, result: TrainingResult) -> None:
    """Write beside the artifacts what `byoc runs` shows of a program that tracks nothing."""
    given, ended = Hyperparameters(request.hyperparameters).for_program(), time.time()
    record = RunRecord(
        name=request.name,
        status=result.status.value,
        started=ended - result.seconds,
        ended=ended,
        parameters={key: MASK if is_secret(key) else as_text(raw) for key, raw in given},
        commit=request.environment.get(CODE_COMMIT, ""),
        repository=request.environment.get(CODE_REPOSITORY, ""),
    )
    record.write(request.output / RUN_FILE)
