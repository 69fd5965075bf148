"""A run on an MLflow server, from a thread: a step never waits for the network.

MLflow's own variables: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_NAME, MLFLOW_RUN_ID,
and MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. Limits: MLflow
REST, runs/log-batch. A batch that is sent twice, since its answer was lost, is stored once.

An http(s) address is used by its REST API, without a package. Others need MLflow's own client:
arn:aws:sagemaker:… (with sagemaker-mlflow, which signs requests), databricks, a database.
"""

from __future__ import annotations

import base64
import functools
import importlib
import importlib.util
import json
import math
import re
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from typing import Any, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote, unquote, urlsplit

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.masking import without_user
from sagemaker_byoc.contract.training.runs import COMPLETED, STOPPED
from sagemaker_byoc.training.library.metric_files import Row

T = TypeVar("T")

URI = "MLFLOW_TRACKING_URI"
HTTP = ("http://", "https://")
SAGEMAKER = "arn:"
REQUEST_SECONDS = 10.0
KEY_LENGTH, VALUE_LENGTH, TAG_LENGTH = 250, 6000, 5000
BATCH = 1000
PARAMETERS_IN_BATCH = 100
MOST_WAITING = 200_000
"""Values that wait; then the oldest are dropped, which metrics.jsonl still has."""
MOST_BAD = 20
"""Values that a server may refuse before nothing more is sent to it."""
TOO_MANY_REQUESTS = 429
"""To be tried again, as server errors are."""
FINAL = frozenset({0, 401, 403, 404, 405})
"""Codes of answers that refuse everything, and not one item of a batch."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 15.0
SECONDS_APART = 0.5


class Refused(Exception):  # noqa: N818 - an answer, not a failure of ours
    """The server refuses the request: trying again would not help."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class Metric(NamedTuple):
    key: str
    value: float
    milliseconds: int
    step: int


@functools.lru_cache(4096)
def legal_key(name: str) -> str:
    """Return the name in the form that every version of MLflow takes."""
    return re.sub(r"[^\w.\- /]", "_", name.replace(":", "/")).strip("/")[:KEY_LENGTH]


class RestServer:
    """MLflow's REST API. Raise OSError or ValueError without an answer, Refused if it refuses."""

    def __init__(self, address: str, environ: Mapping[str, str]) -> None:
        self._address = without_user(address).rstrip("/")
        self._headers = {"Content-Type": "application/json", **_authorization(address, environ)}

    def find_experiment(self, name: str) -> str | None:
        """Return the ID of the experiment; None if it does not exist."""
        try:
            found = self._ask(f"experiments/get-by-name?experiment_name={quote(name)}")
        except Refused as error:
            if "RESOURCE_DOES_NOT_EXIST" not in str(error):
                raise
            return None
        return str(found["experiment"]["experiment_id"])

    def create_experiment(self, name: str) -> str:
        return str(self._ask("experiments/create", {"name": name})["experiment_id"])

    def create_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Start a run, and return its ID."""
        document: dict[str, Json] = {
            "experiment_id": experiment,
            "run_name": name,
            "start_time": time.time_ns() // 1_000_000,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        return str(self._ask("runs/create", document)["run"]["info"]["run_id"])

    def log_metrics(self, run: str, metrics: Sequence[Metric]) -> None:
        shown: list[Json] = [
            {
                "key": one.key,
                # NaN and infinity in protobuf's spelling: with another one the server silently
                # loses the rest of the batch.
                "value": one.value if math.isfinite(one.value) else json.dumps(one.value),
                "timestamp": one.milliseconds,
                "step": one.step,
            }
            for one in metrics
        ]
        self._ask("runs/log-batch", {"run_id": run, "metrics": shown})

    def log_parameters(self, run: str, parameters: Sequence[tuple[str, str]]) -> None:
        shown: list[Json] = [{"key": key, "value": value} for key, value in parameters]
        self._ask("runs/log-batch", {"run_id": run, "params": shown})

    def end(self, run: str, status: str) -> None:
        self._ask(
            "runs/update",
            {"run_id": run, "status": status, "end_time": time.time_ns() // 1_000_000},
        )

    def _ask(self, path: str, document: Mapping[str, Json] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - http and https only
            f"{self._address}/api/2.0/mlflow/{path}",
            data=None if document is None else json.dumps(document).encode(),
            headers=self._headers,
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:  # noqa: S310
                found: dict[str, Any] = json.loads(answer.read() or b"{}")
                return found
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(2000).decode("utf-8", "replace")
            _raise_for(error.code, f"{path.partition('?')[0]}: {error.code} {text[:500]}", error)
            raise


class ClientServer:
    """MLflow's public client, with the methods and exceptions of RestServer."""

    def __init__(self, address: str) -> None:
        self._mlflow: Any = importlib.import_module("mlflow")  # only if the address needs it
        self._client: Any = self._mlflow.MlflowClient(tracking_uri=address)

    def find_experiment(self, name: str) -> str | None:
        found = self._call("get_experiment_by_name", name)
        return None if found is None else str(found.experiment_id)

    def create_experiment(self, name: str) -> str:
        return str(self._call("create_experiment", name))

    def create_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        made = self._call("create_run", experiment, run_name=name, tags=dict(tags))
        return str(made.info.run_id)

    def log_metrics(self, run: str, metrics: Sequence[Metric]) -> None:
        entity = self._mlflow.entities.Metric
        self._call("log_batch", run, metrics=[entity(*one) for one in metrics])

    def log_parameters(self, run: str, parameters: Sequence[tuple[str, str]]) -> None:
        entity = self._mlflow.entities.Param
        self._call("log_batch", run, params=[entity(*one) for one in parameters])

    def end(self, run: str, status: str) -> None:
        self._call("set_terminated", run, status=status)

    def _call(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        try:
            return getattr(self._client, method)(*arguments, **keywords)
        except self._mlflow.exceptions.MlflowException as error:
            _raise_for(error.get_http_status_code(), f"{method}: {error}"[:500], error)
            raise


def _raise_for(code: int, text: str, error: Exception) -> None:
    if code >= 500 or code == TOO_MANY_REQUESTS:
        raise OSError(text[:300]) from error
    raise Refused(text, code) from error


Server: TypeAlias = RestServer | ClientServer


def _authorization(address: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the header for the token or user in the environment, else for the address's user."""
    token = environ.get("MLFLOW_TRACKING_TOKEN")
    if token:
        return {"Authorization": f"Bearer {token}"}
    user, password = (environ.get(f"MLFLOW_TRACKING_{key}") for key in ("USERNAME", "PASSWORD"))
    if not (user and password):
        given = urlsplit(address)
        user, password = unquote(given.username or ""), unquote(given.password or "")
    if not (user and password):
        return {}
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


class MlflowSink:
    """A sink of rows that never raises: a fault of the server is logged, and costs its run only."""

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
        """Values in `_waiting`."""
        self._lost = 0
        self._bad: set[str] = set()
        """Names of what the server refused."""
        self._is_dead = False
        self._deadline: float | None = None
        self.status = COMPLETED
        """How the run ended; `close` sends it."""
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="byoc-mlflow", daemon=True)
        self._thread.start()

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str], say: Callable[[str], None], **about: Any
    ) -> MlflowSink | None:
        """Return None without an address or, logging it, without the packages that it needs."""
        address = environ.get(URI, "").strip()
        if not address:
            return None
        wanted = {} if address.startswith(HTTP) else {"mlflow": "mlflow-skinny"}
        if address.startswith(SAGEMAKER):
            wanted["sagemaker_mlflow"] = "sagemaker-mlflow"
        missing = [name for module, name in wanted.items() if not importlib.util.find_spec(module)]
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
            while self._count > MOST_WAITING:
                old = len(self._waiting.popleft().values)
                self._count -= old
                self._lost += old

    def close(self, seconds: float) -> None:
        """Send what waits, and `status`, within about this time."""
        self._deadline = time.monotonic() + seconds
        self._wake.set()
        self._thread.join(seconds + REQUEST_SECONDS)
        lost = self._lost + self._count
        if lost:
            self._say(f"MLflow did not get {lost} values; metrics.jsonl has them all")

    def correct(self, status: str, seconds: float) -> None:
        """Send another end than the one that `close` has sent."""
        self.status = status
        self._thread = threading.Thread(target=self._end, name="byoc-mlflow-end", daemon=True)
        self._thread.start()
        self._thread.join(seconds)

    def _work(self) -> None:
        try:
            server = self._server = self._retried(self._connected)
            self._begin(server)
            while not self._wake.wait(SECONDS_APART):
                self._send_waiting(server)
            self._send_waiting(server)
        except Exception as error:  # noqa: BLE001 - no sink ends a training
            self._give_up(error)
            self._wake.wait()  # only the end of the training says how it ended
            if isinstance(error, TimeoutError):
                return
        self._end()

    def _connected(self) -> Server:
        if self._uri.startswith(HTTP):
            return RestServer(self._uri, self._environ)
        return ClientServer(self._uri)  # on this thread, since its import takes seconds

    def _end(self) -> None:
        status = {COMPLETED: "FINISHED", STOPPED: "KILLED"}.get(self.status, "FAILED")
        run, server = self._run, self._server
        if run is None or server is None:
            return
        try:
            self._retried(lambda: server.end(run, status))
        except Exception as error:  # noqa: BLE001 - no sink ends a training
            self._say(f"MLflow at {self._address} does not know how the run ended: {error}")

    def _give_up(self, error: Exception) -> None:
        is_known = isinstance(error, Refused | TimeoutError)
        why = str(error) if is_known else f"unexpected answer: {error!r:.300}"
        self._say(f"MLflow at {self._address}: {why}")
        with self._lock:
            self._is_dead = True

    def _begin(self, server: Server) -> None:
        if self._run is None:
            experiment = self._experiment_id(server)
            self._run = self._retried(lambda: server.create_run(experiment, self._name, self._tags))
        run = self._run
        for start in range(0, len(self._parameters), PARAMETERS_IN_BATCH):
            part = self._parameters[start : start + PARAMETERS_IN_BATCH]
            self._send_halved(
                part,
                lambda some: server.log_parameters(run, some),
                lambda one: f"parameter {one[0]}",
            )

    def _experiment_id(self, server: Server) -> str:
        name = self._experiment
        found = self._retried(lambda: server.find_experiment(name))
        if found is not None:
            return found
        try:
            return self._retried(lambda: server.create_experiment(name))
        except Refused:  # another job may have been faster
            found = self._retried(lambda: server.find_experiment(name))
            if found is None:
                raise
            return found

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
        """Send all that the server takes, and return how many were left out. A batch that it
        refuses is halved until the bad item is alone, which is then named once."""
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
        """Return the next rows that fit into one batch, at least one, and how many values."""
        rows: list[Row] = []
        count = 0
        for row in self._waiting:
            count += len(row.values)
            if rows and count > BATCH:
                return rows, count - len(row.values)
            rows.append(row)
        return rows, count

    def _retried(self, ask: Callable[[], T]) -> T:
        """Repeat `ask` until the server answers, or the time after the run's end is over."""
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
