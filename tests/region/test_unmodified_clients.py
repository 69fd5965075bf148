"""Launch scripts that know nothing of this project: AWS CLI, SageMaker SDK 2 and SDK 3.

Each runs in an environment of its own (scripts/clients-env), against a region that was started
by its command, with what `byoc local env` prints and nothing else.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENTS = Path(__file__).parent / "clients"
ENVIRONMENTS = os.environ.get("BYOC_CLIENTS")
DOCKER = os.environ.get("DOCKER", "docker")
DEADLINE = 600  # seconds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not ENVIRONMENTS, reason="BYOC_CLIENTS: the folder that scripts/clients-env made"
    ),
]


def byoc(*words):
    command = [sys.executable, "-m", "sagemaker_byoc.cli", *map(str, words)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=DEADLINE, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    command = [sys.executable, ROOT / "examples/digits/make_data.py", folder]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    return folder


@pytest.fixture(
    scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)]
)
def region(request, tmp_path_factory):
    """What a person's shell has after `eval "$(byoc local env)"`."""
    state = tmp_path_factory.mktemp("state")
    byoc("local", "up", "--detach", "--port", 0, "--state", state, "--engine", request.param)
    try:
        for kind in ("train", "serve"):
            words = ("--engine", request.param, "--state", state)
            byoc("build", kind, ROOT / "examples/digits", "-t", f"digits-{kind}", *words)
        variables = json.loads(byoc("local", "env", "--json", "--state", state))
        inherited = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        path = "/usr/local/bin:/usr/bin:/bin"
        yield inherited | {"PATH": path} | {k: v for k, v in variables.items() if v is not None}
    finally:
        byoc("local", "down", "--state", state)


def image(kind):
    return f"000000000000.dkr.ecr.us-east-1.amazonaws.com/digits-{kind}:latest"


def run(region, environment, program, *words):
    """The last line of what the script printed, as JSON."""
    folder = Path(str(ENVIRONMENTS)) / environment / "bin"
    start = [folder / "python"] if program.endswith(".py") else ["sh"]
    command = [*start, CLIENTS / program, *map(str, words)]
    environ = dict(region, PATH=f"{folder}:{region['PATH']}", DOCKER=DOCKER)
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=DEADLINE, env=environ
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stdout + done.stderr


@pytest.fixture(scope="module")
def sdk_2(region, digits):
    """SDK 2 with one host and with two, side by side: fit() and attach() sleep 5 s each."""
    words = ("sdk2", "sdk_v2.py", image("train"), image("serve"), digits)
    with ThreadPoolExecutor(2) as runs:
        yield {hosts: runs.submit(run, region, *words, hosts) for hosts in (1, 2)}


@pytest.mark.parametrize("hosts", [1, 2])
def test_sdk_2(sdk_2, hosts):
    found, log = sdk_2[hosts].result()
    assert found["status"] == "Completed"
    assert found["metrics"]["loss"] > 0
    assert found["points"]["1"] >= found["points"]["60"] >= 1  # TrainingJobAnalytics
    assert found["average"] > 0
    assert found["model"].endswith("/output/model.tar.gz")
    assert found["answer"][0]["digit"] == found["label"]
    assert "epoch=3" in log  # fit(logs="All") shows what the program printed


@pytest.mark.parametrize("source", ["of the image", "of the script"])
def test_sdk_3(region, digits, source):
    folder = "-" if source == "of the image" else ROOT / "examples/digits"
    found, log = run(region, "sdk3", "sdk_v3.py", image("train"), image("serve"), digits, folder)
    assert found["status"] == "Completed"
    assert found["answer"][0]["digit"] == found["label"]
    assert "epoch=2" in log


def test_metrics_and_alarms_of_boto3(region):
    found, _ = run(region, "sdk2", "metrics_boto3.py")
    assert found["statistics"] == {"Average": 2.0, "SampleCount": 3.0, "Maximum": 3.0}
    assert found["p50"] == 2.0
    assert found["data"] == {"values": [6.0], "status": "Complete"}
    assert found["listed"] == 1
    assert found["refused"] == "InvalidParameterValueException"
    assert found["alarm"] == "ALARM"
    assert "Threshold Crossed: 1 out of the last 1 datapoint [10.0" in found["reason"]
    assert found["history"][-1].startswith("Alarm updated from INSUFFICIENT_DATA to ALARM")
    assert found["tags"] == {"team": "ml"}


def test_metrics_and_alarms_of_the_aws_cli(region):
    found, _ = run(region, "cli", "metrics_cli.sh")
    assert found == {"sum": 12.0, "state": "ALARM", "listed": 1}


def test_aws_cli(region, digits):
    found, log = run(region, "cli", "aws_cli.sh", image("train"), image("serve"), digits)
    assert 0 <= found[0]["digit"] <= 9
    assert "epoch=2" in log
    assert "model.pt" in log


@pytest.fixture(scope="module")
def registry(region):
    """The registry scripts of SDK 2, SDK 3 and the command line, side by side."""
    scripts = {
        "sdk2": "sdk_v2_registry.py",
        "sdk3": "sdk_v3_registry.py",
        "cli": "aws_cli_registry.sh",
    }
    with ThreadPoolExecutor(len(scripts)) as runs:
        yield {
            name: runs.submit(run, region, name, script, image("serve"))
            for name, script in scripts.items()
        }


def test_registry_of_sdk_2(registry):
    """Register, approve, deploy: the newest approved version, a pipeline of three, many models."""
    found, _ = registry["sdk2"].result()
    first, second = found["arns"]
    assert first.endswith("/1")
    assert second.endswith("/2")
    assert found["approved"] == first
    assert found["pipeline_status"] == "Approved"  # by deploy()
    assert found["answers"] == ["one(x)", "c(b(a(x)))"]
    assert found["chosen"] == ["one(x)", "two(x)"]
    assert "from container-1 with message" in found["failure"]
    assert "on purpose" in found["failure"]
    assert found["metadata"] == [{"owner": "me"}, {"checked": "yes"}]
    assert found["commit"] == "abc"
    assert all(digest.startswith("sha256:") for digest in found["digests"])
    assert found["additional"] == "small"


def test_registry_of_sdk_3(registry):
    """ModelBuilder.register, core's resources, and a model of a package."""
    found, _ = registry["sdk3"].result()
    assert [arn.rpartition("/")[2] for arn in found["arns"]] == ["1", "2"]
    assert found["status"] == ["PendingManualApproval", "Approved"]
    assert found["image"] == image("serve")
    assert found["versions"] == [1, 2]
    assert found["group"] == "of SDK 3"
    assert found["answer"] == "three(x)"


def test_registry_of_the_aws_cli(registry):
    found, log = registry["cli"].result()
    assert found == ["PendingManualApproval", "Approved"]
    assert '"ErrorCode": "ValidationException"' in log  # of the version that is not there
    assert '"ModelPackageGroupSummaryList": []' in log


@pytest.fixture(scope="module")
def processed(region, digits):
    """The scripts of processing jobs, side by side: the SDKs sleep 10 s before they look."""
    scripts = {
        "processing_sdk_v2.py": "sdk2",
        "processing_sdk_v3.py": "sdk3",
        "processing_boto3.py": "sdk3",
        "processing_cli.sh": "cli",
    }
    words = (image("train"), digits / "train", CLIENTS / "processing")
    with ThreadPoolExecutor(len(scripts)) as runs:
        yield {
            script: runs.submit(run, region, environment, script, *words)
            for script, environment in scripts.items()
        }


@pytest.mark.parametrize("sdk", ["v2", "v3"])
def test_processing(processed, sdk):
    """ScriptProcessor and FrameworkProcessor: script, folder, arguments, message, both outputs."""
    found, log = processed[f"processing_sdk_{sdk}.py"].result()
    total = found["message"]["rows"]
    assert found["status"] == "Completed"
    assert found["message"]["hosts"] == ["algo-1"]
    assert found["message"]["stage"] == "test"
    assert found["rows"] == {"train": round(total * 0.75), "test": total - round(total * 0.75)}
    assert found["report"]["rows"] == found["rows"]["test"]
    assert found["report"]["arguments"] == ["--strict"]
    assert f"{total} rows, " in log  # run(logs=True) shows what the script printed


def test_more_of_processing(processed):
    """A job that fails, one that was made by another notebook, and one of the resource class."""
    found, _ = processed["processing_sdk_v2.py"].result()
    assert "AlgorithmError: See job logs for more information" in found["refused"]
    assert found["attached"] == ["/opt/ml/processing/input/data", "/opt/ml/processing/input/code"]
    found, _ = processed["processing_sdk_v3.py"].result()
    assert (found["created"], found["listed"]) == ("Completed", True)


def test_boto3_processes_on_two_hosts(processed):
    found, _ = processed["processing_boto3.py"].result()
    assert found["status"] == "Completed"
    assert found["message"].count("rows") == 2
    assert found["listed"] == [found["name"]]
    assert found["streams"] == [f"{found['name']}/algo-1", f"{found['name']}/algo-2"]
    assert found["keys"] == ["out/test/part.csv", "out/train/part.csv"]


def test_aws_cli_processes(processed):
    message, log = processed["processing_cli.sh"].result()
    assert message["stage"] == "test"
    assert "test/part.csv" in log


@pytest.fixture(scope="module")
def transforms(region):
    """The batch transform scripts of SDK 3 and the command line, side by side."""
    scripts = {"sdk3": "sdk_v3_transform.py", "cli": "aws_cli_transform.sh"}
    with ThreadPoolExecutor(len(scripts)) as runs:
        yield {
            name: runs.submit(run, region, name, script, image("serve"))
            for name, script in scripts.items()
        }


@pytest.mark.parametrize("region", ["process"], indirect=True)
def test_transforms_of_sdk_2(region, digits):
    """Estimator.transformer, Transformer with a join and captures, and an object that fails.

    It trains and starts five containers, whose engine it does not see: one engine is enough.
    """
    words = ("sdk2", "sdk_v2_transform.py", image("train"), image("serve"), digits)
    found, log = run(region, *words)
    assert found["digits"] == len((digits / "test/digits.csv").read_text().splitlines())
    assert found["joined"] == [["x3", "11.0"]]
    assert found["captured"] == ["input", "outpu"]
    assert "ClientError" in found["failure"] or "AlgorithmError" in found["failure"]
    assert "See job logs for more information" in found["failure"]
    assert "in/bad.csv" in found["failure"]
    assert found["attached"]
    assert "BatchStrategy=MULTI_RECORD" in log  # transform(logs=True) shows the data log


def test_transforms_of_sdk_3(transforms):
    found, _ = transforms["sdk3"].result()
    assert found["joined"] == [
        {"id": 1, "SageMakerOutput": {"sum": 3}},
        {"id": 2, "SageMakerOutput": {"sum": 3}},
    ]
    assert found["sums"] == ["3", "3"]
    assert found["status"] == "Completed"
    assert found["listed"] == 2


def test_transforms_of_the_aws_cli(transforms):
    found, log = transforms["cli"].result()
    assert found == ["A,B", "C,D"]
    assert "MaxConcurrentTransforms=2, MaxPayloadInMB=1, BatchStrategy=SINGLE_RECORD" in log


def test_events_with_boto3(region):
    """An API destination and a log group get the ends of two jobs, and only these."""
    found, _ = run(region, "sdk2", "boto3_events.py", image("train"))
    assert [each[:2] for each in found["hooks"]] == [["/hook", "secret"]] * 2
    texts = [each[2]["text"].partition(" is ")[2] for each in found["hooks"]]
    assert texts == ["Completed", "Failed"]
    good, bad = (each["detail"] for each in found["logged"])
    assert found["logged"][0]["resources"] == [good["ProcessingJobArn"]]
    assert good["Tags"] == {"team": "blue"}
    assert good["CreationTime"] < good["ProcessingEndTime"]
    assert "AlgorithmError" in bad["FailureReason"]
    assert (found["put"], found["matches"], found["rules"], found["left"]) == (0, True, True, 0)


def test_events_of_the_aws_cli(region):
    found, log = run(region, "cli", "aws_cli_events.sh")
    assert [json.loads(each) for each in found] == [{"total": 12}]
    assert "NotAuthorizedForSourceException" in log
    assert "Rule can't be deleted since it has targets." in log
    assert '"Result": true' in log


@pytest.mark.docker
def test_aws_cli_pushes_with_docker(region):
    """`ecr get-login-password | docker login`, `docker push`, and back."""
    name = f"byoc-test-{os.getpid()}"
    data = subprocess.run(
        ["tar", "--create", "--file", "-", str(CLIENTS)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    command = [DOCKER, "import", "-", name]
    subprocess.run(command, input=data.stdout, check=True, timeout=60, capture_output=True)
    try:
        registry = region["AWS_ENDPOINT_URL"].removeprefix("http://")
        found, _ = run(region, "cli", "aws_ecr.sh", name, registry)
    finally:
        subprocess.run(
            [DOCKER, "rmi", "--force", name], check=True, timeout=60, capture_output=True
        )
    assert found["imageTags"] == ["1"]
    assert found["imageManifestMediaType"].endswith("docker.distribution.manifest.v2+json")
