"""`byoc local …`, `ps`, `logs`, `stop`, `interrupt` against a region of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sagemaker_byoc.cli.target import of_state
from sagemaker_byoc.region.clients import find_keys, make_client
from sagemaker_byoc.region.core.account import read_keys
from sagemaker_byoc.region.core.state_folder import is_locked, read_address

SECONDS = 60
LIVING = """
import time
from sagemaker_byoc.region.region import Region
region = Region()
region.start()
print(region.state, flush=True)
time.sleep(60)
"""

TALKS = """
import signal, sys, threading
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
for number in range(3):
    print(f"line {number}", flush=True)
done.wait(60)
print("the end", flush=True)
"""

pytestmark = pytest.mark.slow
BYOC = [sys.executable, "-m", "sagemaker_byoc.cli"]


def byoc(*words, code=0, **environment):
    """stdout and stderr of a command that must end with `code`."""
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "BYOC_", "SAGEMAKER"))
    }
    done = subprocess.run(
        [*BYOC, *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=clean | environment,
    )
    assert done.returncode == code, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    if code in {2, 3}:
        assert done.stdout == ""
        assert "fix: " in done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """State folder of a running region."""
    folder = tmp_path_factory.mktemp("state")
    byoc("local", "up", "--detach", "--port", 0, "--state", folder)
    yield folder
    byoc("local", "down", "--state", folder)
    assert not is_locked(folder)


@pytest.fixture(scope="module")
def url(state):
    return read_address(state).url


def test_up_prints_the_url_that_answers(state, url):
    assert (
        make_client("sts", url, read_keys(state)).get_caller_identity()["Account"] == "000000000000"
    )
    _, err = byoc("local", "up", "--port", 0, "--state", state, code=3)
    assert url in err
    byoc("local", "up", "--detach", "--port", 0, "--state", state, code=3)


def test_env_is_read_by_a_shell(state, url):
    out, _ = byoc("local", "env", "--state", state, AWS_ENDPOINT_URL_S3="http://127.0.0.1:9")
    script = f"{out}\nenv"
    shell = subprocess.run(
        ["sh", "-eu", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={
            "AWS_PROFILE": "x",
            "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
            "PATH": "/usr/bin:/bin",
        },
    )
    found = dict(line.split("=", 1) for line in shell.stdout.splitlines())
    assert found["AWS_ENDPOINT_URL"] == url
    assert found["SAGEMAKER_ROLE"] == "arn:aws:iam::000000000000:role/service-role/SageMakerRole"
    assert not {"AWS_PROFILE", "AWS_ENDPOINT_URL_S3"} & set(found)


def test_keys_of_another_region_are_the_cause_and_the_fix(url):
    keys = {"AWS_ACCESS_KEY_ID": "AKIAFOREIGN", "AWS_SECRET_ACCESS_KEY": "x"}
    for words in (("ps",), ("invoke", "e", "--url", url)):
        _, err = byoc(*words, code=2, AWS_ENDPOINT_URL=url, **keys)
        assert "security token" in err
        assert 'fix: Run eval "$(byoc local env)" again' in err
        assert err.count("byoc local env") == 1


def test_env_renews_the_keys_that_an_earlier_region_left(state, url, monkeypatch):
    monkeypatch.setattr("sagemaker_byoc.region.clients.default_state", lambda: state)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEARLIER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "earlier")
    assert find_keys(url) == read_keys(state)
    assert find_keys("http://127.0.0.1:9").access_key == "AKIAEARLIER"


def test_env_speaks_other_shells_and_json(state, url):
    assert (
        f"set -gx AWS_ENDPOINT_URL '{url}';"
        in byoc("local", "env", "--state", state, "--shell", "fish")[0]
    )
    keys = read_keys(state).environ
    out, _ = byoc("local", "env", "--url", url, "--shell", "powershell", **keys)
    assert f"$Env:AWS_ENDPOINT_URL = '{url}'" in out
    document = json.loads(byoc("local", "env", "--json", BYOC_REGION_URL=url, **keys)[0])
    assert document["AWS_ENDPOINT_URL"] == url
    assert document["AWS_PROFILE"] is None


def test_ps_lists_in_a_table_and_in_json(state, url):
    assert byoc("ps", "--state", state)[0].startswith("KIND")
    document = json.loads(byoc("ps", "--json", AWS_ENDPOINT_URL=url, **read_keys(state).environ)[0])
    kinds = ("trainingJobs", "processingJobs", "transformJobs", "endpoints")
    assert document == {"schema": 1, **{kind: [] for kind in kinds}}


@pytest.mark.parametrize("command", ["logs", "stop", "interrupt"])
def test_a_name_that_is_nothing_is_refused(state, command):
    _, err = byoc(command, "nothing", "--state", state, code=2)
    assert "byoc ps" in err


def test_a_region_that_does_not_answer_is_named_with_where_it_came_from():
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    _, err = byoc("ps", code=3, AWS_ENDPOINT_URL="http://127.0.0.1:9", **keys)
    assert "http://127.0.0.1:9 (from $AWS_ENDPOINT_URL)" in err
    byoc("ps", "--url", "ftp://x", code=2)


def test_without_a_region_the_cure_is_to_start_one(tmp_path):
    for words in (["local", "env"], ["local", "down"], ["ps"]):
        _, err = byoc(*words, code=3, XDG_DATA_HOME=str(tmp_path))
        assert "byoc local up" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_a_region_in_the_foreground(tmp_path, number, code):
    with subprocess.Popen(
        [*BYOC, "local", "up", "--port", "0", "--state", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(number)
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == code
    assert "Traceback" not in err
    assert not is_locked(tmp_path)
    assert not (tmp_path / "region.json").exists()


def test_gc_removes_what_a_killed_region_left(tmp_path):
    """And nothing of one that runs."""
    with subprocess.Popen(
        [sys.executable, "-c", LIVING],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:
        folder = process.stdout.readline().strip()
        assert folder not in byoc("local", "gc", TMPDIR=str(tmp_path))[0]
        process.kill()
        process.wait(timeout=SECONDS)
    assert f"folder {folder}" in byoc("local", "gc", "--dry-run", TMPDIR=str(tmp_path))[0]
    byoc("local", "gc", TMPDIR=str(tmp_path))
    assert not Path(folder).exists()


def test_a_region_that_does_not_wait_for_the_disk_says_it(tmp_path):
    """At its start, in its log and in its status."""
    warning = "a power cut may lose or tear objects that were stored"
    _, err = byoc("local", "up", "--detach", "--port", 0, "--state", tmp_path, "--no-fsync")
    try:
        assert warning in err
        assert of_state(tmp_path).status()["fsync"] is False
        assert (
            f"WARNING sagemaker_byoc.region.region: no fsync: {warning}"
            in (tmp_path / "region.log").read_text()
        )
    finally:
        byoc("local", "down", "--state", tmp_path)


def test_a_detached_region_that_fails_tells_its_log(tmp_path, url):
    port = url.rpartition(":")[2]
    _, err = byoc("local", "up", "--detach", "--port", port, "--state", tmp_path, code=3)
    assert f"port {port} of 127.0.0.1 can't be used" in err


@pytest.fixture
def job(state, url, tmp_path):
    """The name of a training job that talks, and ends when it is asked to."""
    (tmp_path / "train.py").write_text(TALKS)
    byoc("build", "train", tmp_path, "-t", "talks", "--state", state)
    make_client("sagemaker", url, read_keys(state)).create_training_job(
        TrainingJobName="talks-1",
        RoleArn="arn:aws:iam::000000000000:role/Mine",
        AlgorithmSpecification={"TrainingImage": "talks", "TrainingInputMode": "File"},
        OutputDataConfig={"S3OutputPath": "s3://sagemaker-us-east-1-000000000000/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 300},
    )
    return "talks-1"


def test_a_job_is_listed_followed_and_stopped(state, job):
    """What was written while it stopped is followed too."""
    with subprocess.Popen(
        [*BYOC, "logs", job, "-f", "--state", state], stdout=subprocess.PIPE, text=True
    ) as follower:
        lines = []
        while "algo-1 | line 2" not in lines:
            lines.append(follower.stdout.readline().rstrip())
            assert lines[-1], "the log ended early"
        table, _ = byoc("ps", "--state", state)
        assert ["job", job, "InProgress"] == table.splitlines()[1].split()[:3]
        _, err = byoc("interrupt", job, "--state", state, code=2)
        assert "EnableManagedSpotTraining" in err
        byoc("stop", job, "--state", state)
        rest, _ = follower.communicate(timeout=SECONDS)
    assert follower.returncode == 0
    assert "algo-1 | the end" in rest.splitlines()
    out, _ = byoc("logs", job, "--state", state)
    assert [line for line in out.splitlines() if "| line" in line] == [
        "algo-1 | line 0",
        "algo-1 | line 1",
        "algo-1 | line 2",
    ]
    _, err = byoc("stop", job, "--state", state, code=2)
    assert job in err


def test_a_processing_job_is_listed_followed_and_stopped(state, url):
    """The newest of two kinds is meant by a name that both have."""
    make_client("sagemaker", url, read_keys(state)).create_processing_job(
        ProcessingJobName="talks-1",
        RoleArn="arn:aws:iam::000000000000:role/Mine",
        AppSpecification={
            "ImageUri": "byoc-train",
            "ContainerEntrypoint": ["sh", "-c", "echo busy; exec sleep 600"],
        },
        ProcessingResources={
            "ClusterConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 1,
            }
        },
    )
    with subprocess.Popen(
        [*BYOC, "logs", "talks-1", "-f", "--state", state], stdout=subprocess.PIPE, text=True
    ) as follower:
        assert follower.stdout.readline() == "algo-1 | busy\n"
        table, _ = byoc("ps", "--state", state)
        rows = [line.split()[:3] for line in table.splitlines()]
        assert ["processing", "talks-1", "InProgress"] in rows
        out, err = byoc("stop", "talks-1", "--json", "--state", state)
        assert json.loads(out)["kind"] == "processing"
        assert "processing job talks-1 is stopping" in err
        follower.communicate(timeout=SECONDS)
    document = json.loads(byoc("ps", "--json", "--state", state)[0])
    (job,) = document["processingJobs"]
    assert job["ProcessingJobStatus"] == "Stopped"
