"""A run on an MLflow server, by its REST API, from a thread: a step never waits for the network.

MLflow's own variables: MLFLOW_TRACKING_URI (http or https), MLFLOW_EXPERIMENT_NAME,
MLFLOW_RUN_NAME, MLFLOW_RUN_ID, and MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and
MLFLOW_TRACKING_PASSWORD. Limits: MLflow REST, runs/log-batch. A batch that is sent twice, since
its answer was lost, is stored once.
"""

from __future__ import annotations

import base64
import functools
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

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.runs import COMPLETED, STOPPED
from sagemaker_byoc.training.library.track.sink import Row

URI = "MLFLOW_TRACKING_URI"
BATCH = 1000
PARAMETERS_IN_BATCH = 100
KEY_LENGTH, VALUE_LENGTH = 250, 6000
WAITING = 200_000
"""Values that wait at most; then the oldest go, which metrics.jsonl still has."""
REQUEST_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 15.0
SECONDS_APART = 0.5


class Refused(Exception):  # noqa: N818 - an answer, which is no failure of ours
    """The server understood, and does not want it: trying again would not help."""


class MlflowSink:
    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        name: str,
        parameters: Mapping[str, str],
        tags: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._address = environ[URI].rstrip("/")
        if not self._address.startswith(("http://", "https://")):
            raise ContractError(
                where=URI,
                what=f"is {self._address!r}",
                cure="Give an http:// or https:// address; MLflow itself refuses file stores",
            )
        self._headers = {"Content-Type": "application/json", **_authorization(environ)}
        self._experiment = environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
        self._name = environ.get("MLFLOW_RUN_NAME") or name
        self._run: str | None = environ.get("MLFLOW_RUN_ID") or None
        self._parameters = [*parameters.items()]
        self._tags = dict(tags)
        self._say = say
        self._lock = threading.Lock()
        self._waiting: deque[Row] = deque()
        self._count = 0
        """Values that wait."""
        self._lost = 0
        self._is_dead = False
        self._deadline: float | None = None
        self._status = COMPLETED
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="byoc-mlflow", daemon=True)
        self._thread.start()

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

    def _work(self) -> None:
        try:
            self._begin()
            while not self._wake.wait(SECONDS_APART):
                self._send_waiting()
            self._send_waiting()
            self._end()
        except (Refused, TimeoutError) as error:
            self._give_up(str(error))
        except (LookupError, TypeError) as error:
            self._give_up(f"answers as no MLflow does: {error!r}")

    def _give_up(self, why: str) -> None:
        self._say(f"MLflow at {self._address}: {why}")
        with self._lock:
            self._is_dead = True

    def _begin(self) -> None:
        if self._run is None:
            self._run = self._create(self._experiment_id())
        for start in range(0, len(self._parameters), PARAMETERS_IN_BATCH):
            part = self._parameters[start : start + PARAMETERS_IN_BATCH]
            shown: list[Json] = [
                {"key": _key(key), "value": value[:VALUE_LENGTH]} for key, value in part
            ]
            try:
                self._post("runs/log-batch", {"run_id": self._run, "params": shown})
            except Refused as error:  # a run that goes on (MLFLOW_RUN_ID) may have others
                self._say(f"MLflow at {self._address} did not take parameters: {error}")

    def _experiment_id(self) -> str:
        name = urllib.request.quote(self._experiment)  # type: ignore[attr-defined]
        try:
            found = self._get(f"experiments/get-by-name?experiment_name={name}")
            return str(found["experiment"]["experiment_id"])
        except Refused as error:
            if "RESOURCE_DOES_NOT_EXIST" not in str(error):
                raise
        try:
            return str(
                self._post("experiments/create", {"name": self._experiment})["experiment_id"]
            )
        except Refused as error:
            if "RESOURCE_ALREADY_EXISTS" not in str(error):  # another job was faster
                raise
            found = self._get(f"experiments/get-by-name?experiment_name={name}")
            return str(found["experiment"]["experiment_id"])

    def _create(self, experiment: str) -> str:
        tags: list[Json] = [
            {"key": key, "value": value[:5000]} for key, value in self._tags.items() if value
        ]
        document: dict[str, Json] = {
            "experiment_id": experiment,
            "run_name": self._name,
            "start_time": int(time.time() * 1000),
            "tags": tags,
        }
        return str(self._post("runs/create", document)["run"]["info"]["run_id"])

    def _send_waiting(self) -> None:
        while self._waiting:
            with self._lock:
                rows, count = self._batch()
            metrics: list[Json] = [
                _metric(name, value, row) for row in rows for name, value in row.values.items()
            ]
            for start in range(0, count, BATCH):  # of one row with more values than a batch takes
                part = metrics[start : start + BATCH]
                self._post("runs/log-batch", {"run_id": self._run, "metrics": part})
            with self._lock:  # only now: what was not taken is counted as lost
                for row in rows:
                    if self._waiting and self._waiting[0] is row:
                        self._waiting.popleft()
                        self._count -= len(row.values)

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

    def _end(self) -> None:
        status = {COMPLETED: "FINISHED", STOPPED: "KILLED"}.get(self._status, "FAILED")
        self._post(
            "runs/update",
            {"run_id": self._run, "status": status, "end_time": int(time.time() * 1000)},
        )

    def _get(self, path: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = self._retried(path, None)
        return found

    def _post(self, path: str, document: Mapping[str, Json]) -> dict:  # type: ignore[type-arg]
        return self._retried(path, json.dumps(document).encode())

    def _retried(self, path: str, data: bytes | None) -> dict:  # type: ignore[type-arg]
        """Until the server answers, or the run is over and its time with it."""
        pause = FIRST_PAUSE
        is_said = False
        while True:
            try:
                return self._ask(path, data)
            except (OSError, ValueError, HTTPException) as error:
                if not is_said:
                    self._say(f"MLflow at {self._address} does not answer, trying again: {error}")
                is_said = True
                if self._deadline is not None and time.monotonic() + pause > self._deadline:
                    raise TimeoutError(f"gave up: {error}") from error
            self._wake.wait(pause) if self._deadline is None else time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _ask(self, path: str, data: bytes | None) -> dict:  # type: ignore[type-arg]
        request = urllib.request.Request(  # noqa: S310 - http and https only, see above
            f"{self._address}/api/2.0/mlflow/{path}", data=data, headers=self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:  # noqa: S310
                found: dict = json.loads(answer.read() or b"{}")  # type: ignore[type-arg]
                return found
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(2000).decode("utf-8", "replace")
            if error.code >= 500 or error.code == 429:
                raise OSError(f"{error.code} {text[:200]}") from error
            raise Refused(f"{path}: {error.code} {text[:500]}") from error


def _metric(name: str, value: float, row: Row) -> dict[str, Json]:
    """What is not finite goes as text, spelt as protobuf reads it: by another spelling the server
    silently loses the rest of the batch."""
    return {
        "key": _key(name),
        "value": value if math.isfinite(value) else json.dumps(value),
        "timestamp": int(row.time * 1000),
        "step": row.step,
    }


@functools.lru_cache(4096)
def _key(name: str) -> str:
    """As every version of MLflow takes it."""
    return re.sub(r"[^\w.\- /]", "_", name.replace(":", "/")).strip("/")[:KEY_LENGTH]


def _authorization(environ: Mapping[str, str]) -> dict[str, str]:
    token = environ.get("MLFLOW_TRACKING_TOKEN")
    if token:
        return {"Authorization": f"Bearer {token}"}
    user, password = (
        environ.get("MLFLOW_TRACKING_USERNAME"),
        environ.get("MLFLOW_TRACKING_PASSWORD"),
    )
    if user and password:
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {encoded}"}
    return {}
