"""Endpoints with real containers: updates, deaths, a killed region, several at once under load."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from tests.region.conftest import check_answer

from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.core.account import read_keys

pytestmark = pytest.mark.slow

ROLE = "arn:aws:iam::000000000000:role/service-role/SageMakerRole"
BOUND = 120.0
PROGRAM = """
import os, time
def model_fn(model_dir): return open(os.path.join(model_dir, "answer")).read()
def input_fn(body, content_type): return body.decode() if isinstance(body, bytes) else body
def predict_fn(data, model):
    if data == "fail": raise ValueError("on purpose")
    if data == "exit":
        top = os.getppid()
        below = open(f"/proc/{top}/task/{top}/children").read().split()
        for pid in [top, *(int(p) for p in below if int(p) != os.getpid()), os.getpid()]:
            os.kill(pid, 9)
    return f"{model}:{data}"
def output_fn(prediction, accept): return prediction, "text/plain"
"""
REGION = """
import sys, time
from sagemaker_byoc.region.region import Region
with Region(sys.argv[1], port=int(sys.argv[2]), engine=sys.argv[3]) as region:
    print(region.url, flush=True)
    sys.stdin.read()
"""
ENGINES = ["process", pytest.param("docker", marks=pytest.mark.docker)]


def model(answer):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, text in {"answer": answer, "code/inference.py": PROGRAM}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return data.getvalue()


class Client:
    """What a script does with a region at `url`."""

    def __init__(self, url, keys):
        self.s3 = make_client("s3", url, keys)
        self.sagemaker = make_client("sagemaker", url, keys)
        self.runtime = make_client("sagemaker-runtime", url, keys)
        self.logs = make_client("logs", url, keys)
        for client in (self.sagemaker, self.logs):
            client.meta.events.register("after-call.*", check_answer)

    def model(self, name, **container):
        if "ModelDataUrl" not in container:
            key = f"{name}/model.tar.gz"
            self.s3.put_object(Bucket="models", Key=key, Body=model(name))
            container["ModelDataUrl"] = f"s3://models/{key}"
        container["Image"] = "byoc-serve"
        self.sagemaker.create_model(
            ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE
        )
        variant = {"VariantName": "AllTraffic", "ModelName": name, "InitialInstanceCount": 1}
        variant["InstanceType"] = "ml.m5.large"
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])

    def create(self, name, config):
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)

    def wait(self, name):
        self.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)

    def status(self, name):
        return self.sagemaker.describe_endpoint(EndpointName=name)

    def delete(self, name):
        self.sagemaker.delete_endpoint(EndpointName=name)
        self.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name)

    def ask(self, name, body="x"):
        answer = self.runtime.invoke_endpoint(
            EndpointName=name, Body=body.encode(), ContentType="text/plain"
        )
        return answer["Body"].read().decode()


@contextmanager
def region(state, engine="process", port=0):
    """A region in a process of its own, and a client."""
    with subprocess.Popen(
        [sys.executable, "-c", REGION, str(state), str(port), engine],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            url = process.stdout.readline().strip()
            yield process, Client(url, read_keys(state))
        finally:
            process.stdin.close()
            process.wait(BOUND)


@pytest.fixture(params=ENGINES)
def started(request, tmp_path):
    with region(tmp_path / "state", request.param) as (process, client):
        client.s3.create_bucket(Bucket="models")
        yield process, client


@contextmanager
def load(client, name, clients=4):
    """Asks without a pause until the end; yields a count of the answers."""
    answers = Counter()
    over = threading.Event()

    def ask():
        while not over.is_set():
            answers[client.ask(name)] += 1

    with ThreadPoolExecutor(clients) as threads:
        asked = [threads.submit(ask) for _ in range(clients)]
        try:
            yield answers
        finally:
            over.set()
    for each in asked:
        each.result()


def children(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *children(int(child))]
    return found


def is_running(pid):
    """Return whether it runs; without a parent it stays a zombie until its exit code is read."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition, what):
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_update_and_rollback_under_load(started):
    """Not one request is lost, whichever way the update goes."""
    _, client = started
    for name in ("old", "new"):
        client.model(name)
    client.s3.put_object(Bucket="models", Key="empty/model.tar.gz", Body=b"no archive")
    client.model("bad", ModelDataUrl="s3://models/empty/model.tar.gz")
    client.create("one", "old")
    client.wait("one")
    with load(client, "one") as answers:
        client.sagemaker.update_endpoint(EndpointName="one", EndpointConfigName="new")
        client.wait("one")
        wait_until(lambda: answers["new:x"] > 10, "the new model does not answer")
        client.sagemaker.update_endpoint(EndpointName="one", EndpointConfigName="bad")
        client.wait("one")
    assert answers.keys() == {"old:x", "new:x"}
    found = client.status("one")
    assert found["EndpointStatus"] == "InService"
    assert "not a whole tar archive" in found["FailureReason"]
    assert client.ask("one") == "new:x"
    client.delete("one")


def test_failure_of_the_model_and_its_log(started):
    """The caller gets the container's words, the log stream has its lines."""
    _, client = started
    client.model("answer")
    client.create("one", "answer")
    client.wait("one")
    with pytest.raises(ClientError) as caught:
        client.ask("one", "fail")
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert caught.value.response["OriginalStatusCode"] == 500
    assert "on purpose" in caught.value.response["OriginalMessage"]
    group = "/aws/sagemaker/Endpoints/one"
    (stream,) = client.logs.describe_log_streams(logGroupName=group)["logStreams"]
    assert stream["logStreamName"].startswith("AllTraffic/i-")

    def is_told():
        events = client.logs.get_log_events(
            logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
        )
        return any("on purpose" in event["message"] for event in events["events"])

    wait_until(is_told, "the log has no traceback")


def test_death_of_the_only_container(tmp_path):
    """It is started again by itself, and the log says why."""
    with region(tmp_path / "state") as (_, client):
        client.s3.create_bucket(Bucket="models")
        client.model("answer")
        client.create("one", "answer")
        client.wait("one")
        with pytest.raises(ClientError):
            client.ask("one", "exit")

        def answers():
            try:
                return client.ask("one") == "answer:x"
            except ClientError:
                return False

        wait_until(answers, "no new container")
        found = client.logs.filter_log_events(logGroupName="/aws/sagemaker/Endpoints/one")
        assert any("exit code 137" in event["message"] for event in found["events"])


def test_region_that_is_killed_and_comes_back(tmp_path):
    """The endpoint is found again; the containers of before are gone."""
    with region(tmp_path / "state") as (process, client):
        client.s3.create_bucket(Bucket="models")
        client.model("answer")
        client.create("one", "answer")
        client.wait("one")
        before = children(process.pid)
        assert before
        os.kill(process.pid, signal.SIGKILL)
        process.wait(BOUND)
    with region(tmp_path / "state") as (process, client):
        client.wait("one")
        assert client.ask("one") == "answer:x"
        wait_until(lambda: not any(map(is_running, before)), "the old containers run")
        client.delete("one")
        assert not children(process.pid)


def test_five_endpoints_under_load(tmp_path):
    """Nothing is lost, and nothing is left: no process, no open file."""
    names = [f"held-{number}" for number in range(5)]
    with region(tmp_path / "state") as (process, client):
        client.s3.create_bucket(Bucket="models")
        client.model("answer")
        client.sagemaker.list_endpoints()

        def files():
            found = Counter()
            for each in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(FileNotFoundError):  # closed meanwhile
                    found[str(each.readlink()).partition(":")[0]] += 1
            return found

        before = files()
        for name in names:
            client.create(name, "answer")
        for name in names:
            client.wait(name)
        counts = []
        for name in names:
            with load(client, name, 2) as answers:
                wait_until(lambda answers=answers: answers.total() > 100, "no answers")
            counts.append(answers)
        assert [set(each) for each in counts] == [{"answer:x"}] * 5
        for name in names:
            client.delete(name)
        assert not children(process.pid)
        client.runtime.close()
        left = files()
        # Connections of this test's own clients may still be open.
        assert left.total() - left["socket"] <= before.total() - before["socket"], (before, left)
        assert left["socket"] <= before["socket"] + 12, (before, left)


@pytest.mark.parametrize(
    ("started", "variables", "told"),
    [
        ("process", {"SAGEMAKER_BIND_TO_PORT": "18099"}, "answers /ping on port 18099"),
        pytest.param(
            "docker",
            {"SAGEMAKER_BIND_TO_PORT": "18099"},
            "answers /ping on port 18099, and SageMaker asks on port 8080",
            marks=pytest.mark.docker,
        ),
        pytest.param(
            "docker",
            {"BYOC_BIND_HOST": "127.0.0.1"},
            "listens on 127.0.0.1:8080 inside the container, and SageMaker needs 0.0.0.0:8080",
            marks=pytest.mark.docker,
        ),
    ],
    indirect=["started"],
)
def test_what_is_wrong_is_told(started, variables, told):
    """Another port, another interface: long before the time is over."""
    _, client = started
    client.model("stray", Environment=variables)
    client.create("one", "stray")
    wait_until(lambda: client.status("one")["EndpointStatus"] == "Failed", "still creating")
    reason = client.status("one")["FailureReason"]
    assert reason.startswith("The primary container for production variant AllTraffic did not")
    assert told in reason


def test_byoc_invoke_asks_an_endpoint(tmp_path):
    """The answer on stdout; the model's own error is exit 1 with its words."""
    with region(tmp_path / "state") as (_, client):
        client.s3.create_bucket(Bucket="models")
        client.model("a")
        client.create("one", "a")
        client.wait("one")

        command = [sys.executable, "-m", "sagemaker_byoc.cli", "invoke", "one"]
        command += ["--state", str(tmp_path / "state"), "--content-type", "text/plain"]

        def invoke(*words):
            return subprocess.run(
                [*command, *words],
                check=False,
                capture_output=True,
                text=True,
                timeout=BOUND,
                input="from stdin",
            )

        assert invoke().stdout == "a:from stdin"
        assert invoke("--data", "x", "--stream").stdout == "a:x"
        failed = invoke("--data", "fail")
        assert failed.returncode == 1
        assert "on purpose" in failed.stderr
        assert "byoc logs one" in failed.stderr
