"""A run on an MLflow server, from a thread: a step never waits for the network.

MLflow's own variables: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_NAME, MLFLOW_RUN_ID,
and MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. Limits: MLflow
REST, runs/log-batch. A batch that is sent twice, since its answer was lost, is stored once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from typing import Any, TypeVar

from sagemaker_byoc.contract.masking import without_user
from sagemaker_byoc.contract.training.runs import COMPLETED, STOPPED
from sagemaker_byoc.training.library.track.mlflow_servers import (
    REQUEST_SECONDS,
    TAG_LENGTH,
    VALUE_LENGTH,
    Metric,
    Refused,
    Server,
    legal_key,
    missing_for,
    server_at,
)
from sagemaker_byoc.training.library.track.sinks import Row

T = TypeVar("T")

URI = "MLFLOW_TRACKING_URI"
BATCH = 1000
PARAMETERS_IN_BATCH = 100
WAITING = 200_000
"""Values that wait at most; then the oldest go, which metrics.jsonl still has."""
MOST_BAD = 20
"""Values that a server may refuse before nothing more is sent to it."""
FINAL = frozenset({0, 401, 403, 404, 405})
"""Answers that say no to everything, and not to one item of a batch."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 15.0
SECONDS_APART = 0.5


class MlflowSink:
    """Never raises: what is wrong with the server is said, and costs the run there only."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        name: str,
        parameters: Mapping[str, str],
        tags: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._environ = environ
        self._uri = environ[URI].strip()
        self._address = without_user(self._uri)
        self._server: Server | None = None
        self._experiment = environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
        self._name = environ.get("MLFLOW_RUN_NAME") or name
        self._run: str | None = environ.get("MLFLOW_RUN_ID") or None
        self._parameters = [
            (legal_key(key), text[:VALUE_LENGTH]) for key, text in parameters.items()
        ]
        self._tags = {key: value[:TAG_LENGTH] for key, value in tags.items() if value}
        self._say = say
        self._lock = threading.Lock()
        self._waiting: deque[Row] = deque()
        self._count = 0
        """Values that wait."""
        self._lost = 0
        self._bad: set[str] = set()
        """What the server refused, by name."""
        self._is_dead = False
        self._deadline: float | None = None
        self._status = COMPLETED
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="byoc-mlflow", daemon=True)
        self._thread.start()

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str], say: Callable[[str], None], **about: Any
    ) -> MlflowSink | None:
        """None without an address, or, which is said, without what that address needs."""
        address = environ.get(URI, "").strip()
        if not address:
            return None
        missing = missing_for(address)
        if missing:
            say(
                f"MLflow is left out: {URI}={without_user(address)[:200]} needs "
                f"{' and '.join(missing)}: add to requirements.txt, or give an http(s) address"
            )
            return None
        return cls(environ, say=say, **about)

    def write(self, rows: Sequence[Row]) -> None:
        count = sum([len(row.values) for row in rows])
        with self._lock:
            if self._is_dead:
                self._lost += count
                return
            self._waiting.extend(rows)
            self._count += count
            while self._count > WAITING:
                old = len(self._waiting.popleft().values)
                self._count -= old
                self._lost += old

    def set_status(self, status: str) -> None:
        """How the run ended, before `close`."""
        self._status = status

    def close(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._wake.set()
        self._thread.join(seconds + REQUEST_SECONDS)
        lost = self._lost + self._count
        if lost:
            self._say(f"MLflow did not get {lost} values; metrics.jsonl has them all")

    def correct(self, status: str, seconds: float) -> None:
        """Another end than the one that `close` has sent."""
        self._status = status
        self._thread = threading.Thread(target=self._end, name="byoc-mlflow-end", daemon=True)
        self._thread.start()
        self._thread.join(seconds)

    def _work(self) -> None:
        try:
            server = self._server = self._retried(lambda: server_at(self._uri, self._environ))
            self._begin(server)
            while not self._wake.wait(SECONDS_APART):
                self._send_waiting(server)
            self._send_waiting(server)
        except Exception as error:  # noqa: BLE001 - no listener ends a training
            self._give_up(error)
            self._wake.wait()  # only the end of the training says how it ended
            if isinstance(error, TimeoutError):
                return
        self._end()

    def _end(self) -> None:
        status = {COMPLETED: "FINISHED", STOPPED: "KILLED"}.get(self._status, "FAILED")
        run, server = self._run, self._server
        if run is None or server is None:
            return
        try:
            self._retried(lambda: server.end(run, status))
        except Exception as error:  # noqa: BLE001 - no listener ends a training
            self._say(f"MLflow at {self._address} was not told how the run ended: {error}")

    def _give_up(self, error: Exception) -> None:
        is_known = isinstance(error, Refused | TimeoutError)
        why = str(error) if is_known else f"unexpected answer: {error!r:.300}"
        self._say(f"MLflow at {self._address}: {why}")
        with self._lock:
            self._is_dead = True

    def _begin(self, server: Server) -> None:
        if self._run is None:
            experiment = self._retried(lambda: server.experiment(self._experiment))
            self._run = self._retried(lambda: server.create(experiment, self._name, self._tags))
        run = self._run
        for start in range(0, len(self._parameters), PARAMETERS_IN_BATCH):
            part = self._parameters[start : start + PARAMETERS_IN_BATCH]
            self._send_halved(
                part,
                lambda some: server.log_parameters(run, some),
                lambda one: f"parameter {one[0]}",
            )

    def _send_waiting(self, server: Server) -> None:
        run = self._run or ""
        while self._waiting:
            with self._lock:
                rows, count = self._batch()
            metrics = [
                Metric(legal_key(name), value, int(row.time * 1000), row.step)
                for row in rows
                for name, value in row.values.items()
            ]
            for start in range(0, count, BATCH):  # of one row with more values than a batch takes
                part = metrics[start : start + BATCH]
                self._lost += self._send_halved(
                    part,
                    lambda some: server.log_metrics(run, some),
                    lambda one: f"metric {one.key}",
                )
            with self._lock:  # only now: what was not taken is counted as lost
                for row in rows:
                    if self._waiting and self._waiting[0] is row:
                        self._waiting.popleft()
                        self._count -= len(row.values)

    def _send_halved(
        self, items: Sequence[T], send: Callable[[Sequence[T]], None], name: Callable[[T], str]
    ) -> int:
        """Send all that the server takes: a batch that it refuses is halved until the bad item is
        alone, which is then named once. Return how many were left out."""
        try:
            self._retried(lambda: send(items))
        except Refused as error:
            if error.code in FINAL or len(self._bad) >= MOST_BAD:
                raise
            if len(items) > 1:
                middle = len(items) // 2
                halves = items[:middle], items[middle:]
                return sum([self._send_halved(half, send, name) for half in halves])
            what = name(items[0])
            if what not in self._bad:
                self._say(f"MLflow at {self._address} did not take {what}: {error}")
            self._bad.add(what)
            return 1
        return 0

    def _batch(self) -> tuple[list[Row], int]:
        """The next rows that fit into one batch, at least one; and how many values that is."""
        rows: list[Row] = []
        count = 0
        for row in self._waiting:
            count += len(row.values)
            if rows and count > BATCH:
                return rows, count - len(row.values)
            rows.append(row)
        return rows, count

    def _retried(self, ask: Callable[[], T]) -> T:
        """Until the server answers, or the run is over and its time with it."""
        pause = FIRST_PAUSE
        is_said = False
        while True:
            try:
                return ask()
            except (OSError, ValueError, HTTPException) as error:
                if not is_said:
                    self._say(f"MLflow at {self._address} does not answer, trying again: {error}")
                is_said = True
                if self._deadline is not None and time.monotonic() + pause > self._deadline:
                    raise TimeoutError(f"gave up: {error}") from error
            self._wake.wait(pause) if self._deadline is None else time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
