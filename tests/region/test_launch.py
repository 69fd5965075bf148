"""`byoc launch` against a region of its own: both ways to it, what it makes, how it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.core.account import read_keys
from sagemaker_byoc.region.core.state_folder import read_address

SECONDS = 120
BYOC = [sys.executable, "-m", "sagemaker_byoc.cli"]
ECR = "000000000000.dkr.ecr.us-east-1.amazonaws.com"
TRAIN = """
import argparse, json, os, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--answer", default="42")
parser.add_argument("--end", default="well")
arguments = parser.parse_args()
rows = open(os.path.join(os.environ["SM_CHANNEL_TRAIN"], "rows.csv")).read().split()
print(f"rows={len(rows)}; token={os.environ['API_TOKEN']};", flush=True)
if arguments.end == "badly":
    raise ValueError("there is no column x")
if arguments.end == "never":
    time.sleep(600)
with open(os.path.join(os.environ["SM_MODEL_DIR"], "answer"), "w") as file:
    file.write(arguments.answer)
"""
SERVE = """
import os
def model_fn(model_dir):
    if os.environ.get("BREAK"): raise ValueError("this model is broken")
    return open(os.path.join(model_dir, "answer")).read()
def input_fn(body, content_type): return body.decode() if isinstance(body, bytes) else body
def predict_fn(data, model): return f"{model}:{data}"
def output_fn(prediction, accept): return prediction, "text/plain"
"""
CONFIG = """
[tool.byoc]
name = "digits"
[tool.byoc.train]
program = "train.py"
image = "launched-train"
instance-type = "ml.m5.large"
max-runtime = "5m"
channels = {train = "data/train"}
hyperparameters = {answer = "first"}
metrics = {rows = "rows=([0-9]+);"}
environment = {API_TOKEN = "topsecret"}
[tool.byoc.endpoint]
image = "launched-serve"
instance-type = "ml.m5.large"
model = "job:digits"
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "data" / "train").mkdir(parents=True)
    (folder / "data" / "train" / "rows.csv").write_text("1\n2\n3\n")
    for name, text in {"train": TRAIN, "inference": SERVE}.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "pyproject.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def run(project):
    """stdout and stderr of a command in the project, which must end with `code`."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "BYOC_", "SAGEMAKER"))
    }

    def run(*words, code=0, **environment):
        done = subprocess.run(
            [*BYOC, *map(str, words)], check=False, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=SECONDS, env=clean | environment, cwd=project,
        )  # fmt: skip
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback (most recent call last)\n  File" not in done.stderr
        assert "topsecret" not in done.stdout + done.stderr
        if code in {2, 3}:
            assert done.stdout == ""
            assert "fix: " in done.stderr
        return done.stdout, done.stderr

    return run


@pytest.fixture(scope="module")
def state(tmp_path_factory, run, project):
    """State folder of a running region that has the project's two images."""
    folder = tmp_path_factory.mktemp("state")
    run("local", "up", "--detach", "--port", 0, "--state", folder)
    for kind, name in {"train": "train.py", "serve": "inference.py"}.items():
        words = ["build", kind, project / name, "--tag", f"launched-{kind}"]
        run(*words, "--engine", "process", "--state", folder)
    yield folder
    run("local", "down", "--state", folder)


@pytest.fixture(scope="module")
def client(state):
    url = read_address(state).url
    return lambda service: make_client(service, url, read_keys(state))


@pytest.fixture(scope="module")
def local(run, state):
    """`byoc launch` with --local."""

    def local(*words, code=0):
        return run("launch", *words, "--local", "--state", state, code=code)

    return local


@pytest.fixture(scope="module")
def job(local):
    """The name of one that has completed, and what was said on the way."""
    out, err = local("train", "--wait")
    return out.strip(), err


def ask(client, body, endpoint="digits"):
    answer = client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint, Body=body, ContentType="text/plain"
    )
    return answer["Body"].read().decode()


def tags_of(client, arn):
    found = client("sagemaker").list_tags(ResourceArn=arn)["Tags"]
    return {tag["Key"]: tag["Value"] for tag in found}


def test_a_plan_is_printed_and_nothing_is_done(local, client):
    out, _ = local("train", "--print", "--set", "name=planned")
    plan = json.loads(out)
    assert plan["runs"] == "1 x ml.m5.large, 30 GB each, for at most 5 min"
    request = plan["steps"][-1]["call"]["parameters"]
    assert request["Environment"]["API_TOKEN"] == "***"
    assert not client("sagemaker").list_training_jobs(NameContains="planned")[
        "TrainingJobSummaries"
    ]


def test_a_job_is_followed_to_its_end(job, client):
    """Its log on stderr, its name and nothing else on stdout; who made it, in its tags."""
    name, err = job
    found = client("sagemaker").describe_training_job(TrainingJobName=name)
    assert found["TrainingJobStatus"] == "Completed"
    assert found["Environment"]["API_TOKEN"] == "topsecret"
    assert "algo-1 | rows=3; token=***;" in err
    assert "1 x ml.m5.large" in err
    assert "Completed" in err
    tags = tags_of(client, found["TrainingJobArn"])
    assert name.endswith(tags["byoc:config"])
    assert tags["byoc:image-digest"].startswith("sha256:")
    assert {metric["MetricName"] for metric in found["FinalMetricDataList"]} == {"rows"}


def test_the_same_job_again_is_the_same_job(job, local, client):
    """Nothing runs twice unless it is asked for."""
    out, err = local("train", "--wait", "--json")
    result = json.loads(out)
    assert result["name"] == job[0]
    assert result["made"] == []
    assert result["model"].endswith("model.tar.gz")
    assert "exists already, Completed" in err
    out, _ = local("train", "--new", "--wait")
    assert out.startswith(job[0] + "-")


def test_a_job_that_fails_is_exit_1_with_its_reason(local):
    out, err = local("train", "--wait", "--set", "hyperparameters.end=badly", code=1)
    assert out == ""
    assert "ValueError: there is no column x" in err
    _, err = local("train", "--set", "hyperparameters.end=badly", code=2)
    assert "--new" in err


def test_a_time_limit_is_exit_124_and_ends_nothing(local, client):
    words = ["train", "--wait", "--timeout", "1", "--set", "hyperparameters.end=never"]
    _, err = local(*words, code=124)
    assert "continues" in err
    name = next(word for word in err.split() if word.startswith("digits-"))
    sagemaker = client("sagemaker")
    found = sagemaker.describe_training_job(TrainingJobName=name)
    assert found["TrainingJobStatus"] == "InProgress"
    sagemaker.stop_training_job(TrainingJobName=name)


def test_ctrl_c_is_exit_130_and_ends_nothing(project, state, client):
    words = ["--set", "hyperparameters.end=never", "--set", "name=kept", "--wait"]
    with subprocess.Popen(
        [*BYOC, "launch", "train", "--local", "--state", state, *words],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        lines = iter(process.stderr.readline, "")
        assert any("| rows=3" in line for line in lines)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "sagemaker stop-training-job --training-job-name kept-" in err
    sagemaker = client("sagemaker")
    (found,) = sagemaker.list_training_jobs(NameContains="kept")["TrainingJobSummaries"]
    assert found["TrainingJobStatus"] == "InProgress"
    sagemaker.stop_training_job(TrainingJobName=found["TrainingJobName"])


def test_an_endpoint_is_made_kept_and_updated(job, local, client):
    """The newest model of the jobs of that name; and a new one without a request refused."""
    out, err = local("endpoint", "--wait")
    assert out == "digits\n"
    assert f"model of training job {job[0]}" in err
    assert ask(client, b"x") == "first:x"
    out, err = local("endpoint", "--wait", "--json")
    assert json.loads(out)["made"] == []
    assert "exists already, InService" in err
    local("train", "--wait", "--set", "hyperparameters.answer=second")
    _, err = local("endpoint", "--wait")
    assert "endpoint digits: updated" in err
    assert ask(client, b"x") == "second:x"
    found = client("sagemaker").describe_endpoint(EndpointName="digits")
    assert tags_of(client, found["EndpointArn"])["byoc:image-digest"].startswith("sha256:")


def test_an_update_that_fails_leaves_the_endpoint_serving(job, local, client):
    """And is a failure, although the endpoint is InService."""
    words = ["--set", "name=steady", "--set", f"model=job:{job[0]}"]
    local("endpoint", "--wait", *words)
    _, err = local("endpoint", "--wait", *words, "--set", "environment.BREAK=1", code=1)
    assert "this model is broken" in err
    assert "still serves" in err
    assert ask(client, b"x", "steady") == "first:x"


def test_a_model_of_this_machine(local, client, project):
    (project / "made").mkdir()
    (project / "made" / "answer").write_text("by hand")
    local("endpoint", "--wait", "--set", "name=by-hand", "--set", "model=made")
    assert ask(client, b"x", "by-hand") == "by hand:x"


def test_aws_is_the_same_command(run, state, client, project):
    """With credentials and an endpoint of AWS's own variables, through boto3; and after --yes."""
    settings = json.loads(run("local", "env", "--json", "--state", state)[0])
    environment = {name: value for name, value in settings.items() if value is not None}
    digest = json.loads(run("launch", "train", "--print", "--local", "--state", state)[0])
    digest = digest["steps"][-1]["call"]["parameters"]["Environment"]["BYOC_IMAGE_DIGEST"]
    words = ["launch", "train", "--image", f"{ECR}/launched-train@{digest}", "--set", "name=cloud"]
    _, err = run(*words, code=2, **environment)
    assert "this costs money in AWS: 1 x ml.m5.large" in err
    out, err = run(*words, "--yes", "--json", **environment)
    name = json.loads(out)["name"]
    found = client("sagemaker").describe_training_job(TrainingJobName=name)
    assert found["AlgorithmSpecification"]["TrainingImage"].endswith(digest)
    _, err = run("launch", "train", "--yes", code=2, **environment)
    assert "byoc push launched-train" in err
    _, err = run(*words[:3], f"{ECR}/nothing:1", "--yes", code=2, **environment)
    assert f"{ECR}/nothing:1 is not in ECR" in err


def test_what_was_made_is_named_when_a_call_fails(local, client, job):
    """The model exists; the endpoint's configuration asks for more than this region runs."""
    words = ["--set", "name=broken", "--set", f"model=job:{job[0]}", "--set", "instance-count=99"]
    _, err = local("endpoint", *words, code=1)
    assert "undo it: aws --endpoint-url http://127.0.0.1:" in err
    assert "Made before it, and still there: model broken-" in err
    assert "--region us-east-1 sagemaker delete-model --model-name broken-" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--image", "never-built"], "never-built"),
        (["train", "--set", "instance-type=large"], "instance-type is 'large'"),
        (["train", "--set", "channels.train=nowhere"], "nowhere"),
        (["endpoint", "--set", "model=job:nobody"], "there is no training job 'nobody'"),
        (["endpoint", "--set", "model=nowhere.tar.gz"], "nowhere.tar.gz"),
    ],
)
def test_a_wrong_request_is_exit_2_before_anything_is_made(local, words, said):
    _, err = local(*words, code=2)
    assert said in err


def test_without_a_region_the_cure_is_to_start_one(run, tmp_path):
    _, err = run("launch", "train", "--local", "--state", tmp_path, code=3)
    assert "byoc local up" in err
