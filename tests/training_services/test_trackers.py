"""What Track writes, read by those it is for: an MLflow server and TensorBoard, as released.

They run in an environment of their own: BYOC_TRACKERS=$(scripts/tracking-env FOLDER).
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

TRACKERS = os.environ.get("BYOC_TRACKERS")
DEADLINE = 180
"""Seconds for a server to come up: both import for ten, alone on the machine."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TRACKERS, reason="BYOC_TRACKERS: what scripts/tracking-env made"),
]

PROGRAM = """
import os, sys, time
from sagemaker_byoc.training import Track
track = Track(every=10, parameters={"rate": 0.1, "a:b*": [1, 2]}, name="probe")
for step in range(STEPS):
    track.log(step, {"loss": 1.0 / (1 + step), "valid:accuracy": step / 1000})
track.log(STEPS, {"loss": float("nan"), "valid:accuracy": float("inf")})
print("logged", flush=True)
END
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def get(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read()


@contextmanager
def server(log, address, *command):
    """Until it answers; killed at the end with all that it started."""
    with open(log, "ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    try:
        deadline = time.monotonic() + DEADLINE
        while True:
            with suppress(OSError):
                get(address)
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Mlflow:
    """A server that keeps its runs in SQLite, on a port of its own."""

    def __init__(self, folder):
        self._folder = folder
        self._port = free_port()
        self.address = f"http://127.0.0.1:{self._port}"

    def running(self):
        command = (Path(TRACKERS) / "bin/python", "-m", "mlflow", "server", "--workers", "1")
        store = f"sqlite:///{self._folder}/mlflow.db"
        where = ("--host", "127.0.0.1", "--port", str(self._port))
        return server(
            self._folder / "mlflow.log",
            f"{self.address}/health",
            *(*command, *where, "--backend-store-uri", store),
            *("--artifacts-destination", str(self._folder)),
        )


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    made = Mlflow(tmp_path_factory.mktemp("mlflow"))
    with made.running():
        yield made


READ_MLFLOW = """
import json, sys, mlflow
client = mlflow.MlflowClient(sys.argv[1])
experiment = client.get_experiment_by_name(sys.argv[2])
[run] = client.search_runs([experiment.experiment_id])
points = {
    name: [[one.step, str(one.value)] for one in client.get_metric_history(run.info.run_id, name)]
    for name in run.data.metrics
}
document = {
    "name": run.info.run_name, "status": run.info.status, "parameters": run.data.params,
    "tags": run.data.tags, "points": points,
}
print(json.dumps(document))
"""


def runs(address, experiment):
    """The one run of an experiment, as MLflow's own client has it."""
    done = subprocess.run(
        [Path(TRACKERS) / "bin/python", "-c", READ_MLFLOW, address, experiment],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def program(tmp_path, address, experiment, *, steps=1000, end=""):
    """A training of its own, in an empty job's folder."""
    text = PROGRAM.replace("STEPS", str(steps)).replace("END", end)
    names = ("HOME", "LANG", "PATH")
    environ = {name: os.environ[name] for name in names if name in os.environ} | {
        "SAGEMAKER_BASE_DIR": str(tmp_path),
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_EXPERIMENT_NAME": experiment,
        "BYOC_CODE_COMMIT": "c0ffee",
    }
    return subprocess.Popen(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )


def wait_for_line(process, words):
    for line in process.stdout:
        if line.strip() == words:
            return
    raise AssertionError(process.stderr.read())


def check_points(found, steps=1000):
    losses = sorted((step, float(value)) for step, value in found["points"]["loss"])
    assert losses[:-1] == [(step, pytest.approx(1 / (1 + step))) for step in range(steps)]
    assert math.isnan(losses[-1][1])
    assert len(found["points"]["valid/accuracy"]) == steps + 1  # it takes no colon in a name


def test_mlflow(mlflow, tmp_path):
    """Every step's values, NaN and infinity among them; parameters, tags, how it ended."""
    process = program(tmp_path, mlflow.address, "whole")
    _, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (0, "")
    found = runs(mlflow.address, "whole")
    check_points(found)
    assert (found["name"], found["status"]) == ("probe", "FINISHED")
    assert found["parameters"] == {"rate": "0.1", "a/b_": "[1, 2]"}
    assert found["tags"]["mlflow.source.git.commit"] == "c0ffee"


def test_mlflow_has_everything_after_sigterm(mlflow, tmp_path):
    """What the network has not taken yet is brought out in the seconds that a job has left."""
    process = program(tmp_path, mlflow.address, "stopped", steps=200, end="time.sleep(600)")
    wait_for_line(process, "logged")
    process.terminate()
    _, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (-signal.SIGTERM, "")
    found = runs(mlflow.address, "stopped")
    check_points(found, steps=200)
    assert found["status"] == "KILLED"


def test_mlflow_after_an_exception(mlflow, tmp_path):
    """A run that failed says so."""
    process = program(tmp_path, mlflow.address, "failed", steps=10, end="raise ValueError('no')")
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    found = runs(mlflow.address, "failed")
    check_points(found, steps=10)
    assert found["status"] == "FAILED"


def test_mlflow_that_comes_late(tmp_path):
    """The training is done before the server is there; nothing is lost, and it is said once."""
    late = Mlflow(tmp_path)
    process = program(tmp_path / "job", late.address, "late", end="track.close(seconds=150)")
    wait_for_line(process, "logged")
    with late.running():
        _, errors = process.communicate(timeout=DEADLINE)
        assert (process.returncode, errors.count("does not answer, trying again")) == (0, 1)
        check_points(runs(late.address, "late"))


def test_tensorboard(tmp_path):
    """The page's own requests, while the job runs: all that was logged until kill -9."""
    process = program(tmp_path, "", "-", end="time.sleep(600)")
    wait_for_line(process, "logged")
    process.kill()
    process.communicate(timeout=DEADLINE)
    port = free_port()
    address = f"http://127.0.0.1:{port}/data"
    folder = tmp_path / "output" / "data" / "tensorboard"
    command = (Path(TRACKERS) / "bin/tensorboard", "--logdir", folder, "--port", str(port))
    log = tmp_path / "tensorboard.log"
    with server(log, f"{address}/logdir", *map(str, command), "--load_fast=false"):
        tag = urllib.parse.quote("valid:accuracy", safe="")
        deadline = time.monotonic() + DEADLINE
        points = []
        while not points:
            assert time.monotonic() < deadline, log.read_text()
            with suppress(OSError):  # until it has read the folder
                points = json.loads(get(f"{address}/plugin/scalars/scalars?run=.&tag={tag}"))
    assert [step for _, step, _ in points] == list(range(1000))
    assert [value for _, _, value in points] == [pytest.approx(n / 1000) for n in range(1000)]
