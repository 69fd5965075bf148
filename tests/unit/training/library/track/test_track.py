"""Track in a program: who is told, what is left behind, and what a dead server costs."""

from __future__ import annotations

import http.server
import io
import json
import resource
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress

import pytest
import torch

from sagemaker_byoc.contract.training.runs import RunRecord
from sagemaker_byoc.training.library import mlflow as sink
from sagemaker_byoc.training.library.run_facts import code_commit
from sagemaker_byoc.training.library.track import Track


class Server(http.server.ThreadingHTTPServer):
    """MLflow's answers as its REST documentation has them; `failing` of them are `code` first."""

    def __init__(self, failing=0, code=503):
        self.asked, self.failing, self.code = [], failing, code
        self.bad, self.bad_code = None, 400
        """A key that is not taken, nor anything beside it."""
        super().__init__(("127.0.0.1", 0), Handler)

    def points(self):
        return [
            (one["key"], one["step"], one["value"])
            for path, document in self.asked
            if path == "runs/log-batch"
            for one in document.get("metrics", [])
        ]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(404, {"error_code": "RESOURCE_DOES_NOT_EXIST"})

    def do_POST(self):
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.failing:
            self.server.failing -= 1
            self.answer(self.server.code, {"error_code": "NO"})
            return
        items = [*document.get("metrics", []), *document.get("params", [])]
        if self.server.bad in [one["key"] for one in items]:
            self.answer(self.server.bad_code, {"error_code": "INVALID_PARAMETER_VALUE"})
            return
        path = self.path.removeprefix("/api/2.0/mlflow/")
        self.server.asked.append((path, document))
        replies = {
            "experiments/create": {"experiment_id": "7"},
            "runs/create": {"run": {"info": {"run_id": "r1"}}},
        }
        self.answer(200, replies.get(path, {}))

    def answer(self, code, document):
        data = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextmanager
def mlflow(monkeypatch, **settings):
    with Server(**settings) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_address[1]}")
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_four_sinks(folder, tmp_path, monkeypatch):
    """One call a step: a line, the metrics file, events, MLflow, and the record of the run."""
    monkeypatch.setenv("SAGEMAKER_METRICS_DIRECTORY", str(tmp_path / "metrics"))
    out = io.StringIO()
    with mlflow(monkeypatch) as server:
        model = tmp_path / "model.pt"
        model.write_bytes(b"weights")
        with Track(every=2, stream=out, parameters={"lr": 0.1, "api_key": "very-secret"}) as track:
            for step in range(1, 5):
                track.log(step, {"loss": torch.tensor(1.0 / step)})
            track.artifact("model", model)
    assert out.getvalue().count("loss=") == 2
    [file] = (tmp_path / "metrics").glob("*.json")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["Value"] for row in rows if row["MetricName"] == "loss"][:2] == [1.0, 0.5]
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    losses = [point for point in server.points() if point[0] == "loss"]
    assert losses == [("loss", step, pytest.approx(1 / step)) for step in range(1, 5)]
    assert server.asked[-1][1]["status"] == "FINISHED"
    definitions = json.loads((folder / "metric_definitions.json").read_text())
    assert "loss" in {one["Name"] for one in definitions}
    run = RunRecord.read(folder / "run.json")
    assert (run.status, run.metrics["loss"]) == ("Completed", 0.25)
    assert run.parameters == {"lr": 0.1, "api_key": "***"}
    assert run.artifacts[0].sha256.startswith("9")
    assert run.artifacts[0].size == 7


def test_goals(folder):
    """Kept in the record; a word that is not a goal is refused at once."""
    with Track(stream=io.StringIO(), goals={"my_metric": "max"}) as track:
        track.log(1, {"my_metric": 1.0})
    assert RunRecord.read(folder / "run.json").goals == {"my_metric": "max"}
    with pytest.raises(ValueError, match="the goal of 'loss' is 'down', not 'max' or 'min'"):
        Track(goals={"loss": "down"})


def test_code(tmp_path):
    """The commit of a folder, whether it was changed, and where it is from, without the token."""

    def git(*words):
        subprocess.run(["git", "-C", tmp_path, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "train.py").write_text("pass")
    git("add", "train.py")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "first")
    git("remote", "add", "origin", "https://me:token@example.com/team/code.git")
    commit, repository = code_commit({}, tmp_path)
    assert len(commit) == 40
    assert repository == "https://example.com/team/code.git"
    (tmp_path / "train.py").write_text("...")
    assert code_commit({}, tmp_path)[0] == f"{commit}-dirty"
    assert code_commit({"BYOC_CODE_COMMIT": "c0ffee"}, tmp_path) == ("c0ffee", "")


@pytest.mark.slow
def test_a_server_that_fails_at_first(folder, monkeypatch, capsys):
    """Tried again until it answers, and said once."""
    with mlflow(monkeypatch, failing=2) as server:
        with Track(every=1, stream=io.StringIO()) as track:
            track.log(1, {"loss": 1.0})
        assert ("loss", 1, 1.0) in server.points()
    assert capsys.readouterr().err.count("does not answer, trying again") == 1


@pytest.mark.slow
def test_a_server_that_refuses(folder, monkeypatch, capsys):
    """401: not tried again, since it would not help; said, with what it did not get."""
    with mlflow(monkeypatch, failing=1000, code=401) as server:
        with Track(every=1, stream=io.StringIO()) as track:
            track.log(1, {"loss": 1.0})
        assert server.failing == 999
    said = capsys.readouterr().err
    assert 'experiments/create: 401 {"error_code": "NO"}' in said
    assert "MLflow did not get" in said


def test_a_server_that_hangs(folder, monkeypatch, capsys):
    """It takes the connection and says nothing: no step waits, and the end has an end."""
    monkeypatch.setattr(sink, "REQUEST_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        track = Track(every=1, stream=io.StringIO())
        track.log(1, {"loss": 1.0})
        track.close(seconds=0.1)
    assert "MLflow did not get" in capsys.readouterr().err
    assert RunRecord.read(folder / "run.json").status == "Completed"


@pytest.mark.slow
def test_what_is_not_finite_is_spelt_as_mlflow_reads_it(folder, monkeypatch):
    """By any other spelling a server drops the rest of the batch, and answers 200."""
    with mlflow(monkeypatch) as server:
        with Track(every=3, stream=io.StringIO()) as track:
            for step, loss in enumerate((float("nan"), float("inf"), float("-inf"))):
                track.log(step, {"loss": loss})
        found = [value for name, _, value in server.points() if name == "loss"]
    assert found == ["NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"nonsense\r\n"]
)
def test_what_is_no_mlflow_server(folder, monkeypatch, capsys, answer):
    """Said in one line; no traceback of a thread, and the training ends as it should."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")

        def answers():
            with suppress(OSError):  # closed below
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(answer)

        thread = threading.Thread(target=answers)
        thread.start()
        track = Track(every=1, stream=io.StringIO())
        track.log(1, {"loss": 1.0})
        track.close(seconds=0.3)
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    said = capsys.readouterr().err
    assert "MLflow did not get" in said
    assert "Traceback" not in said


@pytest.fixture
def small_disk(tmp_path):
    """No file beyond so many bytes: what fits is written, as on a full disk."""
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, kept[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, kept)


def test_full_disk(folder, tmp_path, monkeypatch, capfd, small_disk):
    """Each sink says so once, no file has half a line, the log has all, and it goes on later."""
    monkeypatch.setenv("SAGEMAKER_METRICS_DIRECTORY", str(tmp_path / "metrics"))
    out = io.StringIO()
    with Track(every=1, stream=out) as track:
        small_disk(2000)
        for step in range(40):
            track.log(step, {"loss": 1.0})
        small_disk(1 << 20)
        track.log(40, {"loss": 1.0})
    said = capfd.readouterr().err
    assert [said.count(f"{name} lacks steps") for name in ("MetricFile", "EventFile")] == [1, 1]
    assert said.count("metrics.jsonl lacks steps") == 1
    assert out.getvalue().count("loss=") == 41
    [metrics] = (tmp_path / "metrics").glob("*.json")
    for file in (metrics, folder / "metrics.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert 0 < len(rows) < 41 * 3
    assert rows[-1]["step"] == 40


def test_no_server(folder, monkeypatch, capsys):
    """Nothing waits for it while the training runs; at the end it is said what it did not get."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    track = Track(every=1, stream=io.StringIO())
    for step in range(100):
        track.log(step, {"loss": 1.0})
    track.close(seconds=0.1)
    assert "MLflow did not get" in capsys.readouterr().err
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 100


@pytest.mark.parametrize(
    ("address", "packages"),
    [
        ("arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/mine", 2),
        ("file:///tmp/mlruns", 1),
        ("databricks", 1),
    ],
)
def test_an_address_for_which_a_package_is_missing(folder, monkeypatch, capsys, address, packages):
    """MLflow is left out, which is said once with what is missing; all else is as ever."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with Track(every=1, stream=io.StringIO()) as track:
        track.log(1, {"loss": 1.0})
    said = capsys.readouterr().err
    assert said.count("MLflow is left out") == 1
    assert said.count("mlflow-skinny") + said.count("sagemaker-mlflow") == packages
    assert RunRecord.read(folder / "run.json").status == "Completed"


@pytest.mark.parametrize("address", ["http://", "http://[bad", "https://h:port", "http:///x", " "])
def test_an_address_that_is_none(folder, monkeypatch, capsys, address):
    """It costs one line."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    track = Track(every=1, stream=io.StringIO())
    track.log(1, {"loss": 1.0})
    track.close(seconds=0.1)
    assert "Traceback" not in capsys.readouterr().err
    assert RunRecord.read(folder / "run.json").status == "Completed"


CLIENT = """
import json, os, types
class MlflowException(Exception):
    def __init__(self, text, code): super().__init__(text); self.code = code
    def get_http_status_code(self): return self.code
exceptions = types.SimpleNamespace(MlflowException=MlflowException)
entities = types.SimpleNamespace(Metric=lambda *a: ["metric", *a], Param=lambda *a: ["param", *a])
class MlflowClient:
    def __init__(self, tracking_uri): self.say("client", tracking_uri)
    def say(self, *words):
        with open(os.environ["FAKE_LOG"], "a") as file: print(json.dumps(words), file=file)
    def get_experiment_by_name(self, name): return None
    def create_experiment(self, name): return "7"
    def create_run(self, experiment, run_name, tags):
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))
    def log_batch(self, run, metrics=(), params=()):
        if os.environ.get("FAKE_FAILS"): raise MlflowException("no", int(os.environ["FAKE_FAILS"]))
        self.say("log", *metrics, *params)
    def set_terminated(self, run, status): self.say("end", run, status)
"""


@pytest.mark.parametrize("code", ["", "403"])
def test_managed_mlflow(folder, tmp_path, monkeypatch, capsys, code):
    """SageMaker's: by the packages that can sign, if they are there; a refusal is said, and the
    run is told how it ended all the same."""
    for name in ("mlflow", "sagemaker_mlflow"):
        (tmp_path / "packages" / name).mkdir(parents=True)
        (tmp_path / "packages" / name / "__init__.py").write_text(CLIENT)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "said"))
    monkeypatch.setenv("FAKE_FAILS", code)
    address = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-app/mine"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    try:
        with Track(every=1, stream=io.StringIO(), parameters={"lr": 0.1}) as track:
            track.log(3, {"loss": 1.0})
    finally:
        for name in ("mlflow", "sagemaker_mlflow"):
            sys.modules.pop(name, None)
    first, *logged, last = map(json.loads, (tmp_path / "said").read_text().splitlines())
    assert (first, last) == (["client", address], ["end", "r1", "FINISHED"])
    said = capsys.readouterr().err
    if code:
        assert not logged
        assert "log_batch: no" in said
    else:
        assert logged[0] == ["log", ["param", "lr", "0.1"]]
        assert [logged[1][1][place] for place in (1, 2, 4)] == ["loss", 1.0, 3]


def test_one_bad_value_in_a_batch(folder, monkeypatch, capsys):
    """The batch is halved until it is alone; it is named once, and all others arrive."""
    with mlflow(monkeypatch) as server:
        server.bad = "bad"
        parameters = {"lr": 0.1, "bad": 1, "width": 8}
        with Track(every=4, stream=io.StringIO(), parameters=parameters) as track:
            for step in range(8):
                track.log(step, {"loss": 1.0, "bad": 2.0})
        points = server.points()
        assert [step for name, step, _ in points if name == "loss"] == [*range(8)]
        kept = [one["key"] for _, document in server.asked for one in document.get("params", [])]
        assert kept == ["lr", "width"]
        assert server.asked[-1][1]["status"] == "FINISHED"
    said = capsys.readouterr().err
    assert said.count("did not take metric bad") == said.count("did not take parameter bad") == 1
    assert "MLflow did not get 8 values" in said


def test_a_server_that_refuses_later(folder, monkeypatch, capsys):
    """The run is told how it ended, though its values were not taken."""
    with mlflow(monkeypatch) as server:
        server.bad, server.bad_code = "loss", 404
        with Track(every=1, stream=io.StringIO()) as track:
            track.log(1, {"loss": 1.0})
        assert server.asked[-1][1]["status"] == "FINISHED"
    assert "MLflow did not get" in capsys.readouterr().err


def test_metric_after_the_end(folder, monkeypatch, capsys):
    """That of a last test, after `with`: it is kept, and what does not get it is named once."""
    with mlflow(monkeypatch) as server:
        with Track(every=10, stream=io.StringIO()) as track:
            track.log(1, {"loss": 2.0})
        track.log(1, {"test_loss": 3.0})
        track.log(1, {"test_accuracy": 0.5})
    run = RunRecord.read(folder / "run.json")
    assert run.status == "Completed"
    assert [run.metrics[name] for name in ("loss", "test_loss", "test_accuracy")] == [2.0, 3.0, 0.5]
    assert "test_accuracy" in (folder / "metrics.jsonl").read_text()
    assert "test_loss" not in {point[0] for point in server.points()}
    assert capsys.readouterr().err.count("log() came after close(): MLflow does not get it") == 1


def test_failed(folder):
    """An exception makes a failed run, with what was logged until then."""

    def program():
        with Track(every=10, stream=io.StringIO()) as track:
            track.log(1, {"loss": 2.0})
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        program()
    run = RunRecord.read(folder / "run.json")
    assert (run.status, run.metrics["loss"]) == ("Failed", 2.0)


PROGRAM = """
import time
from sagemaker_byoc.training import Track
track = Track(every=1000)
for step in range(1, 51):
    track.log(step, {"loss": 1.0 / step})
print("logged", flush=True)
time.sleep(600)
"""


def started(program, monkeypatch):
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert "logged\n" in iter(process.stdout.readline, "")
    return process


@pytest.mark.slow
def test_sigterm(folder, monkeypatch):
    """Everything that was logged is brought out, and the process still ends by the signal."""
    with mlflow(monkeypatch) as server:
        process = started(PROGRAM, monkeypatch)
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGTERM
        assert len([one for one in server.points() if one[0] == "loss"]) == 50
        assert server.asked[-1][1]["status"] == "KILLED"
    assert RunRecord.read(folder / "run.json").status == "Stopped"


@pytest.mark.slow
def test_sigterm_within_a_print(folder):
    """A program that does nothing but print has no moment in which another print may begin."""
    program = PROGRAM.replace("time.sleep(600)", "while True: print('x' * 9000, flush=True)")
    process = started(program, None)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (-signal.SIGTERM, "")
    assert RunRecord.read(folder / "run.json").status == "Stopped"
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 50


@pytest.mark.slow
def test_kill(folder, monkeypatch):
    """kill -9: no half line anywhere."""
    process = started(PROGRAM.replace("every=1000", "every=1"), monkeypatch)
    process.kill()
    process.communicate(timeout=60)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 50
