"""The two ways to an MLflow server: its REST API, without a package, and MLflow's own client.

The client is for addresses that need more than HTTP: arn:aws:sagemaker:… (with sagemaker-mlflow,
which signs requests), databricks, a database. Variables and limits: mlflow.py.
"""

from __future__ import annotations

import base64
import functools
import importlib
import importlib.util
import json
import math
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote, urlsplit

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.masking import without_user

REQUEST_SECONDS = 10.0
KEY_LENGTH, VALUE_LENGTH, TAG_LENGTH = 250, 6000, 5000
SAGEMAKER = "arn:"
OFTEN = 429
"""Too many requests: to be tried again, as server errors are."""


class Refused(Exception):  # noqa: N818 - an answer, not a failure of ours
    """The server understood, and does not want it: trying again would not help."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class Metric(NamedTuple):
    key: str
    value: float
    milliseconds: int
    step: int


class Server(Protocol):
    """Raise OSError or ValueError if there is no answer, Refused if the server refuses."""

    def experiment(self, name: str) -> str:
        """Return the ID of the experiment, which is made if it does not exist."""

    def create(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Start a run, and return its ID."""

    def log_metrics(self, run: str, metrics: Sequence[Metric]) -> None: ...

    def log_parameters(self, run: str, parameters: Sequence[tuple[str, str]]) -> None: ...

    def end(self, run: str, status: str) -> None: ...


def missing_for(address: str) -> list[str]:
    """The packages that this address needs and that are not installed."""
    if address.startswith(("http://", "https://")):
        return []
    wanted = {"mlflow": "mlflow-skinny"}
    if address.startswith(SAGEMAKER):
        wanted["sagemaker_mlflow"] = "sagemaker-mlflow"
    return [package for module, package in wanted.items() if not importlib.util.find_spec(module)]


def server_at(address: str, environ: Mapping[str, str]) -> Server:
    """The client is imported here, which takes seconds: to be called on a thread."""
    if address.startswith(("http://", "https://")):
        return RestServer(address, environ)
    return ClientServer(address)


@functools.lru_cache(4096)
def legal_key(name: str) -> str:
    """Return the form that every version of MLflow takes."""
    return re.sub(r"[^\w.\- /]", "_", name.replace(":", "/")).strip("/")[:KEY_LENGTH]


class RestServer:
    def __init__(self, address: str, environ: Mapping[str, str]) -> None:
        self._address = without_user(address).rstrip("/")
        own = urlsplit(address)  # as a clone's address, it may hold user and password
        user = {
            "MLFLOW_TRACKING_USERNAME": unquote(own.username or ""),
            "MLFLOW_TRACKING_PASSWORD": unquote(own.password or ""),
        }
        self._headers = {
            "Content-Type": "application/json",
            **(_authorization(environ) or _authorization(user)),
        }

    def experiment(self, name: str) -> str:
        try:
            return self._experiment_by_name(name)
        except Refused as error:
            if "RESOURCE_DOES_NOT_EXIST" not in str(error):
                raise
        try:
            return str(self._ask("experiments/create", {"name": name})["experiment_id"])
        except Refused as error:
            if "RESOURCE_ALREADY_EXISTS" not in str(error):  # another job was faster
                raise
            return self._experiment_by_name(name)

    def create(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        document: dict[str, Json] = {
            "experiment_id": experiment,
            "run_name": name,
            "start_time": _milliseconds(),
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        return str(self._ask("runs/create", document)["run"]["info"]["run_id"])

    def log_metrics(self, run: str, metrics: Sequence[Metric]) -> None:
        shown: list[Json] = [
            {
                "key": one.key,
                # Spelt as protobuf reads what is not finite: by another spelling the server
                # silently loses the rest of the batch.
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
        self._ask("runs/update", {"run_id": run, "status": status, "end_time": _milliseconds()})

    def _experiment_by_name(self, name: str) -> str:
        found = self._ask(f"experiments/get-by-name?experiment_name={quote(name)}")
        return str(found["experiment"]["experiment_id"])

    def _ask(self, path: str, document: Mapping[str, Json] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - http and https only, see server_at
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
    """MLflow's public client, with its exceptions turned into ours."""

    def __init__(self, address: str) -> None:
        self._mlflow: Any = importlib.import_module("mlflow")  # only if the address needs it
        self._client: Any = self._mlflow.MlflowClient(tracking_uri=address)

    def experiment(self, name: str) -> str:
        found = self._call("get_experiment_by_name", name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._call("create_experiment", name))
        except Refused:
            found = self._call("get_experiment_by_name", name)
            if found is None:
                raise
            return str(found.experiment_id)

    def create(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        made = self._call("create_run", experiment, run_name=name, tags=dict(tags))
        return str(made.info.run_id)

    def log_metrics(self, run: str, metrics: Sequence[Metric]) -> None:
        made = [self._mlflow.entities.Metric(*one) for one in metrics]
        self._call("log_batch", run, metrics=made)

    def log_parameters(self, run: str, parameters: Sequence[tuple[str, str]]) -> None:
        made = [self._mlflow.entities.Param(*one) for one in parameters]
        self._call("log_batch", run, params=made)

    def end(self, run: str, status: str) -> None:
        self._call("set_terminated", run, status=status)

    def _call(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        try:
            return getattr(self._client, method)(*arguments, **keywords)
        except self._mlflow.exceptions.MlflowException as error:
            _raise_for(error.get_http_status_code(), f"{method}: {error}"[:500], error)
            raise


def _raise_for(code: int, text: str, error: Exception) -> None:
    if code >= 500 or code == OFTEN:
        raise OSError(text[:300]) from error
    raise Refused(text, code) from error


def _milliseconds() -> int:
    return int(time.time() * 1000)


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
