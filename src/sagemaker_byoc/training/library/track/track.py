"""Track: Metrics, with everyone told of each step, and a record of the run."""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from sagemaker_byoc.contract.debugger import tensorboard_folder
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.hyperparameters import Hyperparameters, as_text
from sagemaker_byoc.contract.masking import MASK, is_secret
from sagemaker_byoc.contract.metric_lint import lint
from sagemaker_byoc.contract.metrics import format_line
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.runs import (
    COMPLETED,
    DEFINITIONS_FILE,
    FAILED,
    RUN_FILE,
    STOPPED,
    RunRecord,
)
from sagemaker_byoc.training.library.metrics import Metrics, Value
from sagemaker_byoc.training.library.process import job
from sagemaker_byoc.training.library.track.events import EventFile
from sagemaker_byoc.training.library.track.metric_file import MetricFile
from sagemaker_byoc.training.library.track.mlflow import URI, MlflowSink
from sagemaker_byoc.training.library.track.provenance import artifact, code_commit, image_digest
from sagemaker_byoc.training.library.track.sink import Row, Sink

CLOSE_SECONDS = 30.0
SIGTERM_SECONDS = 10.0


class Track(Metrics):
    """`log` as Metrics has it; what each line holds also goes to the metrics file, to TensorBoard
    and, where MLFLOW_TRACKING_URI is set, to MLflow. Only rank 0 does anything.

    `parameters` are the job's hyperparameters if left out; secrets among them are hidden. The
    keywords of Metrics are taken too. ContractError for an MLFLOW_TRACKING_URI that is not http.
    """

    def __init__(
        self,
        *,
        parameters: Mapping[str, Json] | None = None,
        name: str | None = None,
        **metrics: Any,
    ) -> None:
        super().__init__(**metrics)
        process = job()
        given = process.job.hyperparameters
        raw = parameters if parameters is not None else _shown(given)
        commit, repository = code_commit(os.environ, Path.cwd())
        self.record = RunRecord(
            name=name or process.name or f"run-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}",
            started=time.time(),
            parameters={key: MASK if is_secret(key) else value for key, value in raw.items()},
            commit=commit,
            repository=repository,
            image=image_digest(os.environ),
            hosts=len(process.hosts),
            processes=process.world_size,
        )
        self._times: list[float] = []
        self._failed: set[Sink] = set()
        self._last: dict[str, float] = {}
        self._folder = self.file.parent
        self._is_closed = False
        self._is_busy = False
        self._signal: int | None = None
        self._ending: threading.Thread | None = None
        self._mlflow: MlflowSink | None = None
        self._sinks: list[Sink] = self._make_sinks(process.tree) if self.is_writer else []
        self._former: Any = None
        self._keep_record()
        atexit.register(self.close)
        self._catch_sigterm()

    def log(
        self, step: int, values: Mapping[str, Value], *, tokens: int = 0, samples: int = 0
    ) -> None:
        self._is_busy = True
        if self._ending is not None:
            self._ending.join()  # this process is about to end
        if self.is_writer:
            self._times.append(time.time())
        super().log(step, values, tokens=tokens, samples=samples)
        self._is_busy = False
        if self._signal is not None:
            self._end_by(self._signal).join()

    def artifact(self, name: str, value: str | os.PathLike[str]) -> None:
        """Remember a file, with its SHA-256, or an address."""
        found = artifact(name, value)
        kept = [one for one in self.record.artifacts if one.name != name]
        self.record = replace(self.record, artifacts=[*kept, found])
        self._keep_record()

    def close(self, status: str = COMPLETED, *, seconds: float = CLOSE_SECONDS) -> None:
        """Write what is left of an interval, and bring everything out within `seconds`."""
        if self._is_closed:
            return
        self._is_closed = self._is_busy = True
        atexit.unregister(self.close)
        super().close()
        self.record = replace(
            self.record,
            status=status if not _is_failing() else FAILED,
            ended=time.time(),
            metrics=dict(self._last),
        )
        self._keep_record()
        if self._mlflow:
            self._mlflow.set_status(self.record.status)
        for sink in self._sinks:
            sink.close(seconds)
        self._release_sigterm()
        if self._signal is not None:  # it came meanwhile
            os.kill(os.getpid(), self._signal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close(COMPLETED if kind is None else FAILED)

    def on_rows(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        times, self._times = self._times, []
        told = [Row(step, at, row) for (step, row), at in zip(rows, times, strict=False)]
        is_new = not self._last.keys() >= rows[-1][1].keys()
        for _, row in rows:
            self._last.update(row)
        for sink in self._sinks:
            try:
                sink.write(told)
            except (
                OSError
            ) as error:  # tried again with the next line: a disk may be full for a while
                if sink not in self._failed:
                    _say(f"{type(sink).__name__} lacks steps: {error.strerror}")
                self._failed.add(sink)
        if is_new:
            self._define(rows[-1][1])

    def _make_sinks(self, tree: Tree) -> list[Sink]:
        made: list[Sink] = []
        metric_file = MetricFile.from_environ(os.environ)
        if metric_file:
            made.append(metric_file)
        folder = os.environ.get("BYOC_TENSORBOARD_DIR") or tensorboard_folder(tree)
        made.append(EventFile(Path(folder or self._folder / "tensorboard")))
        if os.environ.get(URI):
            record = self.record
            self._mlflow = MlflowSink(
                os.environ,
                name=record.name,
                parameters={key: _text(value) for key, value in record.parameters.items()},
                tags={
                    "mlflow.source.git.commit": record.commit,
                    "mlflow.source.git.repoURL": record.repository,
                    "mlflow.docker.image.id": record.image,
                    "sagemaker_training_job": record.name,
                },
                say=_say,
            )
            made.append(self._mlflow)
        return made

    def _define(self, row: Mapping[str, float]) -> None:
        """metric_definitions.json, held against a line as it was printed."""
        try:
            path = self.write_definitions(self._folder / DEFINITIONS_FILE)
        except (ValueError, OSError) as error:
            _say(f"no {DEFINITIONS_FILE}: {error}")
            return
        definitions = json.loads(path.read_text())
        printed = [one for one in definitions if one["Name"] in row]
        for problem in lint(printed, [format_line(row)]):
            _say(f"{DEFINITIONS_FILE}: {problem}")

    def _keep_record(self) -> None:
        if self.is_writer:
            try:
                self.record.write(self._folder / RUN_FILE)
            except OSError as error:
                _say(f"{RUN_FILE} can't be written: {error.strerror}")

    def _catch_sigterm(self) -> None:
        """Only where nobody else does: a StopFlag's program ends by itself, and closes us."""
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL or not self.is_writer:
            return
        try:
            self._former = signal.signal(signal.SIGTERM, self._on_sigterm)
        except ValueError:
            return  # not the main thread

    def _release_sigterm(self) -> None:
        if self._former is not None and signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, self._former)
        self._former = None

    def _on_sigterm(self, number: int, _frame: FrameType | None) -> None:
        if self._is_busy:  # half of a step is written: the other half first
            self._signal = number
        else:
            self._end_by(number)

    def _end_by(self, number: int) -> threading.Thread:
        """On a thread: the program may be in the middle of a print, and no other one can be begun
        within it."""
        self._release_sigterm()
        self._signal = None
        self._ending = threading.Thread(target=self._end, args=(number,), name="byoc-track-end")
        self._ending.start()
        return self._ending

    def _end(self, number: int) -> None:
        try:
            self.close(STOPPED, seconds=SIGTERM_SECONDS)
        finally:
            os.kill(os.getpid(), number)  # as if we had not been there


def _is_failing() -> bool:
    """Whether an exception that nothing caught is what brings us here."""
    return getattr(sys, "last_value", None) is not None


def _shown(given: Hyperparameters) -> dict[str, Json]:
    """Those of the program, without the quotes that some clients send."""
    return {key: as_text(raw) for key, raw in given.for_program()}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _say(text: str) -> None:
    sys.stderr.write(f"byoc track: {text}\n")
    sys.stderr.flush()
