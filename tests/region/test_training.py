"""Training jobs as an unmodified client sees them: every answer is checked against AWS's model."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, WaiterError

from sagemaker_byoc.region.containers.recorded_images import Recording, record

BUCKET = "training-data"
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def sagemaker(region):
    return region.client("sagemaker")


@pytest.fixture(scope="module")
def s3(region):
    client = region.client("s3")
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def request_of(region, s3):
    """A request for a job that runs a line of shell."""

    def make(name, script, **more):
        algorithm = {
            "TrainingImage": f"{region.account.id}.dkr.ecr.us-east-1.amazonaws.com/byoc-train",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["/bin/sh", "-c", script],
        }
        return {
            "TrainingJobName": name,
            "AlgorithmSpecification": {**algorithm, **more.pop("algorithm", {})},
            "RoleArn": region.account.role,
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 10,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            **more,
        }

    return make


def wait(sagemaker, name):
    """botocore's own waiter: it polls, and finds each answer held until there is news."""
    waiter = sagemaker.get_waiter("training_job_completed_or_stopped")
    waiter.wait(TrainingJobName=name, WaiterConfig={"Delay": 0, "MaxAttempts": 60})
    return sagemaker.describe_training_job(TrainingJobName=name)


def test_from_a_folder_to_a_model(sagemaker, s3, request_of, region):
    """Data up, a job, its log, its metric, the model down."""
    s3.put_object(Bucket=BUCKET, Key="rows/a.csv", Body=b"1,2")
    request = request_of(
        "first",
        "cat /opt/ml/input/data/train/a.csv > /opt/ml/model/m; echo 'loss=0.25;'",
        algorithm={"MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]},
        InputDataConfig=[
            {
                "ChannelName": "train",
                "DataSource": {
                    "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/rows/"}
                },
            }
        ],
        HyperParameters={"epochs": "1"},
        Environment={"A": "b"},
        Tags=[{"Key": "k", "Value": "v"}],
    )
    arn = sagemaker.create_training_job(**request)["TrainingJobArn"]
    job = wait(sagemaker, "first")
    assert job["TrainingJobStatus"] == "Completed"
    assert job["TrainingJobArn"] == arn
    assert job["FinalMetricDataList"][0]["Value"] == 0.25
    for member in ("Environment", "HyperParameters"):
        assert job[member] == request[member]
    # With the values that AWS adds to what a request leaves out.
    (asked,), (channel,) = request["InputDataConfig"], job["InputDataConfig"]
    assert channel["ChannelName"] == asked["ChannelName"]
    source = channel["DataSource"]["S3DataSource"]
    assert source.pop("S3DataDistributionType") == "FullyReplicated"
    assert source == asked["DataSource"]["S3DataSource"]
    described = job["AlgorithmSpecification"]
    assert described.pop("EnableSageMakerMetricsTimeSeries") is True
    assert described == request["AlgorithmSpecification"]
    uri = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix(f"s3://{BUCKET}/")
    body = s3.get_object(Bucket=BUCKET, Key=uri)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        assert tar.extractfile("m").read() == b"1,2"
    logs = region.client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    (stream,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="first/")[
        "logStreams"
    ]
    assert stream["logStreamName"].startswith("first/algo-1-")
    events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])
    assert [event["message"] for event in events["events"]] == ["loss=0.25;"]
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "k", "Value": "v"}]


def test_a_failed_job_fails_its_waiter(sagemaker, request_of):
    """The reason is the failure file's."""
    script = "printf 'no label' > /opt/ml/output/failure; exit 4"
    sagemaker.create_training_job(**request_of("fails", script))
    with pytest.raises(WaiterError, match="Failed"):
        wait(sagemaker, "fails")
    job = sagemaker.describe_training_job(TrainingJobName="fails")
    assert job["FailureReason"] == "AlgorithmError: no label, exit code: 4"


def test_stop_and_delete(sagemaker, request_of):
    """Stopped within its grace, deleted, and no longer there."""
    sagemaker.create_training_job(**request_of("stops", "while :; do sleep 0.02; done"))
    sagemaker.stop_training_job(TrainingJobName="stops")
    assert wait(sagemaker, "stops")["TrainingJobStatus"] == "Stopped"
    sagemaker.delete_training_job(TrainingJobName="stops")
    with pytest.raises(ClientError, match=r"ValidationException.*Requested resource not found"):
        sagemaker.describe_training_job(TrainingJobName="stops")


def test_a_name_twice(sagemaker, request_of):
    """ResourceInUse is the error that scripts catch."""
    sagemaker.create_training_job(**request_of("twice", "true"))
    with pytest.raises(sagemaker.exceptions.ResourceInUse, match="must be unique"):
        sagemaker.create_training_job(**request_of("twice", "true"))
    wait(sagemaker, "twice")


def test_paginator(sagemaker, request_of):
    """Every job once, over pages of two."""
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        sagemaker.create_training_job(**request_of(name, "true"))
    pages = sagemaker.get_paginator("list_training_jobs").paginate(
        NameContains="page", SortBy="Name", PaginationConfig={"PageSize": 2}
    )
    found = [job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"]]
    assert found == names
    for name in names:
        wait(sagemaker, name)


def test_driver_as_the_sdks_send_it(sagemaker, s3, request_of):
    """SDK v3: a channel with a shell driver that is made executable, and a channel of code."""
    driver = "cd /opt/ml/input/data/code && python train.py"
    s3.put_object(Bucket=BUCKET, Key="drv/sm_train.sh", Body=f"#!/bin/bash\n{driver}\n".encode())
    s3.put_object(Bucket=BUCKET, Key="code/train.py", Body=b"print('from the code channel')")
    channels = [
        {
            "ChannelName": name,
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{prefix}"}
            },
        }
        for name, prefix in (("sm_drivers", "drv"), ("code", "code"))
    ]
    script = "/opt/ml/input/data/sm_drivers/sm_train.sh"
    request = request_of(
        "driver",
        "",
        algorithm={
            "ContainerEntrypoint": ["/bin/bash"],
            "ContainerArguments": ["-c", f"chmod +x {script} && {script}"],
        },
        InputDataConfig=channels,
    )
    sagemaker.create_training_job(**request)
    assert wait(sagemaker, "driver")["TrainingJobStatus"] == "Completed"


@pytest.mark.slow
def test_digits_on_two_hosts(sagemaker, s3, request_of, region, tmp_path):
    """The example's own program, recorded as an image, trains over two hosts."""
    program = Recording(kind="train", program=EXAMPLES / "digits", entry_point=None, tag="digits")
    record(program, region.state, Path(sys.executable))
    data = tmp_path / "data"
    subprocess.run([sys.executable, EXAMPLES / "digits/make_data.py", data], check=True)
    channels = []
    for name in ("train", "test"):
        for file in (data / name).iterdir():
            s3.put_object(Bucket=BUCKET, Key=f"digits/{name}/{file.name}", Body=file.read_bytes())
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/digits/{name}"}
        channels.append({"ChannelName": name, "DataSource": {"S3DataSource": source}})
    request = request_of(
        "digits",
        "",
        ResourceConfig={
            "InstanceType": "ml.m5.large",
            "InstanceCount": 2,
            "VolumeSizeInGB": 10,
        },
        InputDataConfig=channels,
        HyperParameters={"epochs": "2"},
    )
    del request["AlgorithmSpecification"]["ContainerEntrypoint"]
    request["AlgorithmSpecification"]["TrainingImage"] = "digits"
    sagemaker.create_training_job(**request)
    job = wait(sagemaker, "digits")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    key = "out/digits/output/model.tar.gz"
    assert s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] > 1000
