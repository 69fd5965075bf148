"""Track: Metrics that also go to files, TensorBoard and MLflow, and a record of the run."""

from __future__ import annotations

import atexit
import builtins
import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.debugger import tensorboard_folder
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters, as_text
from sagemaker_byoc.contract.training.runs import (
    COMPLETED,
    DEFINITIONS_FILE,
    FAILED,
    GOALS,
    IN_PROGRESS,
    RUN_FILE,
    STOPPED,
    RunRecord,
    format_line,
    lint,
)
from sagemaker_byoc.contract.variables import TENSORBOARD_DIR
from sagemaker_byoc.training.library.metric_files import EventFile, MetricFile, Row, Sink
from sagemaker_byoc.training.library.metrics import Metrics, Value, say
from sagemaker_byoc.training.library.mlflow import MlflowSink
from sagemaker_byoc.training.library.process import job
from sagemaker_byoc.training.library.run_facts import (
    artifact,
    code_commit,
    image_digest,
    plain_parameters,
)

CLOSE_SECONDS = 30.0
SIGTERM_SECONDS = 10.0


class Track(Metrics):
    """Metrics that also go to the metrics file, to TensorBoard and, if MLFLOW_TRACKING_URI is set,
    to MLflow. Only rank 0 does anything.

    `parameters` are a mapping, dataclass or Namespace, by default the job's hyperparameters; their
    secrets are hidden. `goals` say of metrics whether "max" or "min" is better, if their names do
    not tell. Metrics' own keywords are taken too. The failure of a sink is logged once; it never
    ends the training.
    """

    def __init__(
        self,
        *,
        parameters: object | None = None,
        name: str | None = None,
        goals: Mapping[str, str] | None = None,
        **metrics: Any,
    ) -> None:
        for metric, goal in (goals or {}).items():
            if goal not in GOALS:
                raise ValueError(f"the goal of {metric!r} is {goal!r}, not 'max' or 'min'")
        super().__init__(**metrics)
        process = job()
        given = process.job.hyperparameters
        raw = parameters if parameters is not None else _shown(given)
        commit, repository = code_commit(os.environ, Path())
        self.record = RunRecord(
            name=name or process.name or f"run-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}",
            started=time.time(),
            parameters=plain_parameters(raw),
            commit=commit,
            repository=repository,
            image=image_digest(os.environ),
            hosts=len(process.hosts),
            processes=process.world_size,
            goals={**(goals or {})},
        )
        self._times: list[float] = []
        self._failed: set[int] = set()
        self._process = os.getpid()
        self._last: dict[str, float] = {}
        self._undefined: set[str] = set()
        self._folder = self.file.parent
        self._is_closed = False
        self._is_late = False
        self._is_busy = False
        self._signal: int | None = None
        self._ending: threading.Thread | None = None
        self._mlflow: MlflowSink | None = None
        self._sinks: list[Sink] = self._make_sinks(process.tree) if self.is_writer else []
        self._former: Any = None
        self._keep_record()
        atexit.register(self._at_exit)
        _notice_exits()
        self._catch_sigterm()

    def log(
        self, step: int, values: Mapping[str, Value], *, tokens: Value = 0, samples: Value = 0
    ) -> None:
        self._is_busy = True
        _exits.clear()  # a program that still runs has caught its SystemExit
        if self._ending is not None:
            self._ending.join()  # this process is about to end
        try:
            if self.is_writer:
                self._times.append(time.time())
            super().log(step, values, tokens=tokens, samples=samples)
        except BaseException:
            del self._times[len(self._kept) :]
            raise
        finally:
            self._is_busy = False
        if self._signal is not None:
            self._end_by(self._signal).join()

    def artifact(self, name: str, value: str | os.PathLike[str]) -> None:
        """Add a file, with its SHA-256, or an address to the record."""
        found = artifact(name, value)
        kept = [one for one in self.record.artifacts if one.name != name]
        self.record = replace(self.record, artifacts=[*kept, found])
        self._keep_record()

    def close(self, status: str = COMPLETED, *, seconds: float = CLOSE_SECONDS) -> None:
        """Write the rest of an interval, and finish the record and every sink within `seconds`.

        Each is finished even if another one fails.
        """
        if self._is_closed or os.getpid() != self._process:  # in a fork
            return
        self._is_closed = self._is_busy = True
        try:
            super().close()
        except Exception as error:  # noqa: BLE001 - see above
            _say(f"the last steps are lost: {type(error).__name__}: {error}")
        finally:
            self._finish(status, seconds)
        self._release_sigterm()
        if self._signal is not None:  # it arrived meanwhile
            os.kill(os.getpid(), self._signal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close(_status_of(kind, error))

    def on_rows(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        times, self._times = self._times, []
        told = [Row(step, at, row) for (step, row), at in zip(rows, times, strict=False)]
        is_new = not self._last.keys() >= rows[-1][1].keys()
        for _, row in rows:
            self._last.update(row)
        for sink in self._sinks:
            try:
                sink.write(told)
            except Exception as error:  # noqa: BLE001 - tried again: a disk may be full for a while
                self._say_failed(sink, "lacks steps", error)
        if is_new:
            self._define(rows[-1][1])
        if self.record.status != IN_PROGRESS:
            self._add_to_record()

    def _add_to_record(self) -> None:
        """Record what is logged after `close`, which is not sent to a server."""
        self.record = replace(self.record, ended=time.time(), metrics=dict(self._last))
        self._keep_record()
        if self._mlflow and not self._is_late:
            self._is_late = True
            _say("log() came after close(): MLflow does not get it, run.json and metrics.jsonl do")

    def _finish(self, status: str, seconds: float) -> None:
        self.record = replace(
            self.record, status=status, ended=time.time(), metrics=dict(self._last)
        )
        self._keep_record()
        if self._mlflow:
            self._mlflow.status = self.record.status
        for sink in self._sinks:
            try:
                sink.close(seconds)
            except Exception as error:  # noqa: BLE001 - the others are closed too
                self._say_failed(sink, "was not closed", error)

    def _at_exit(self) -> None:
        """Correct the status when the interpreter ends: now it is known how the program ended."""
        if os.getpid() != self._process:
            return
        status = _status_at_exit()
        if not self._is_closed:
            self.close(status)
        elif self.record.status == COMPLETED != status:
            self.record = replace(self.record, status=status)
            self._keep_record()
            if self._mlflow:
                self._mlflow.correct(status, SIGTERM_SECONDS)

    def _say_failed(self, sink: Sink, what: str, error: Exception) -> None:
        if id(sink) not in self._failed:
            _say(f"{type(sink).__name__} {what}: {getattr(error, 'strerror', None) or error!r}")
        self._failed.add(id(sink))

    def _make_sinks(self, tree: Tree) -> list[Sink]:
        made: list[Sink] = []
        metric_file = MetricFile.from_environ(os.environ)
        if metric_file:
            made.append(metric_file)
        made.append(EventFile(self._events_folder(tree)))
        record = self.record
        self._mlflow = MlflowSink.from_environ(
            os.environ,
            _say,
            name=record.name,
            parameters={key: _text(value) for key, value in record.parameters.items()},
            tags={
                "mlflow.source.git.commit": record.commit,
                "mlflow.source.git.repoURL": record.repository,
                "mlflow.docker.image.id": record.image,
                "sagemaker_training_job": record.name,
            },
        )
        return [*made, self._mlflow] if self._mlflow else made

    def _events_folder(self, tree: Tree) -> Path:
        try:
            folder = os.environ.get(TENSORBOARD_DIR) or tensorboard_folder(tree)
        except ContractError as error:
            _say(f"{error}; TensorBoard's events are written beside the metrics")
            folder = None
        return Path(folder or self._folder / "tensorboard")

    def _define(self, row: Mapping[str, float]) -> None:
        """Write metric_definitions.json, and check it against a line as it was printed."""
        try:
            path = self.write_definitions(self._folder / DEFINITIONS_FILE)
        except (ValueError, OSError, ContractError) as error:
            if str(error) not in self._undefined:
                _say(f"no {DEFINITIONS_FILE}: {error}")
            self._undefined.add(str(error))
            return
        definitions = json.loads(path.read_text())
        printed = [one for one in definitions if one["Name"] in row]
        for problem in lint(printed, [format_line(row)]):
            _say(f"{DEFINITIONS_FILE}: {problem}")

    def _keep_record(self) -> None:
        if self.is_writer:
            try:
                self.record.write(self._folder / RUN_FILE)
            except (OSError, TypeError, ValueError) as error:
                _say(f"{RUN_FILE} can't be written: {error}")

    def _catch_sigterm(self) -> None:
        """Handle SIGTERM if nothing else does: a program with a StopFlag ends, and closes this."""
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
        if self._is_busy:  # in the middle of a step: when it is complete
            self._signal = number
        else:
            self._end_by(number)

    def _end_by(self, number: int) -> threading.Thread:
        """Close on a thread: the program may be in the middle of a print, and a second one could
        not start."""
        self._release_sigterm()
        self._signal = None
        self._ending = threading.Thread(target=self._end, args=(number,), name="byoc-track-end")
        self._ending.start()
        return self._ending

    def _end(self, number: int) -> None:
        try:
            self.close(STOPPED, seconds=SIGTERM_SECONDS)
        finally:
            os.kill(os.getpid(), number)  # with the former handler


_exits: list[object] = []
"""The last argument of sys.exit, exit or quit on the main thread. Not of `raise SystemExit(3)` or
os._exit."""


def _notice_exits() -> None:
    for module, name in ((sys, "exit"), (builtins, "exit"), (builtins, "quit")):
        original = getattr(module, name, None)  # `python -S` lacks the two of builtins
        if original is not None and not hasattr(original, "__wrapped__"):
            setattr(module, name, _noticed(original))


def _noticed(original: Callable[[Any], object]) -> Callable[[Any], object]:
    @functools.wraps(original)
    def exit(status: Any = None, /) -> object:  # noqa: A001 - its name
        if threading.current_thread() is threading.main_thread():
            _exits[:] = [status]
        return original(status)

    return exit


def _status_of(kind: type[BaseException] | None, error: BaseException | None) -> str:
    """Return the status of a run that ends with this exception."""
    if kind is None or issubclass(kind, GeneratorExit):
        return COMPLETED
    if issubclass(kind, SystemExit):
        return FAILED if getattr(error, "code", None) else COMPLETED
    return STOPPED if issubclass(kind, KeyboardInterrupt) else FAILED


def _status_at_exit() -> str:
    """Return the status by the uncaught exception, or by the argument of sys.exit."""
    if hasattr(sys, "ps1"):  # an interactive session, whose errors do not end it
        return COMPLETED
    error = getattr(sys, "last_value", None)
    if error is not None:
        return _status_of(type(error), error)
    return FAILED if any(_exits) else COMPLETED


def _shown(given: Hyperparameters) -> dict[str, Json]:
    """Return the program's hyperparameters, without the quotes that some clients send."""
    return {key: as_text(raw) for key, raw in given.for_program()}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _say(text: str) -> None:
    say(f"byoc track: {text}")
