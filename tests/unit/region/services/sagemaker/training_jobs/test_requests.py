"""What is refused before anything is made, listing, deleting, tags, and the long poll."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.waiting import wait_until
from tests.unit.region.services.sagemaker.training_jobs.conftest import BUCKET, channel

from sagemaker_byoc.region.core.polling import CLIENT, FOLLOWS, WAITS
from sagemaker_byoc.region.services.sagemaker.training_jobs.record import new_document
from sagemaker_byoc.region.wire.operations import AwsError


def refusal(call, *arguments, **parameters):
    with pytest.raises(AwsError) as found:
        call(*arguments, **parameters)
    return found.value


def test_a_name_is_used_once(region):
    """Also that of a job that has ended; deleted, it is free again."""
    arn = region.create("true")
    error = refusal(region.create, "true")
    assert error.code == "ResourceInUse"
    assert error.message == (
        "Training job names must be unique within an AWS account and region, and a training job "
        f"with this name already exists ({arn})"
    )
    region.end()
    assert refusal(region.create, "true").code == "ResourceInUse"
    region.call("DeleteTrainingJob", TrainingJobName="job-1")
    assert region.run("true")["TrainingJobStatus"] == "Completed"


@pytest.mark.parametrize("operation", ["Describe", "Stop", "Delete"])
def test_an_unknown_job(region, operation):
    """ValidationException, as the service has it."""
    error = refusal(region.call, f"{operation}TrainingJob", TrainingJobName="absent")
    assert (error.code, error.message) == ("ValidationException", "Requested resource not found.")


GROUP = {"InstanceGroupName": "g", "InstanceType": "ml.m5.large", "InstanceCount": 1}
FILES = {"FileSystemDataSource": {"FileSystemId": "fs-12345678"}}
ODD = {"InstanceGroupNames": ["other"]}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"name": "a_b"}, "Value 'a_b' at 'trainingJobName' failed to satisfy constraint"),
        ({"algorithm": {"TrainingImage": "absent:1"}}, "byoc build train PROGRAM --tag absent:1"),
        ({"algorithm": {"TrainingImage": "Upper"}}, "lower case"),
        ({"algorithm": {"TrainingImage": ""}}, "TrainingImage is needed"),
        ({"InputDataConfig": [channel("t", "nothing")]}, "No S3 objects found under S3 URL"),
        ({"InputDataConfig": [{"ChannelName": "t", "DataSource": FILES}]}, "reads S3 only"),
        ({"InputDataConfig": [channel("t", "a"), channel("t", "a")]}, "used twice"),
        ({"InputDataConfig": [channel("t", "a", "AugmentedManifestFile")]}, "needs InputMode Pipe"),
        ({"InputDataConfig": [channel("t", "a", source=ODD)]}, "no instance group 'other'"),
        ({"OutputDataConfig": {"S3OutputPath": "s3://absent/x"}}, "no bucket 'absent'"),
        ({"CheckpointConfig": {"S3Uri": "s3://absent/x"}}, "no bucket 'absent'"),
        (
            {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/x", "LocalPath": "/var/c"}},
            "below /opt/ml",
        ),
        (
            {"CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/x", "LocalPath": "/opt/ml/input/data"}},
            "another use",
        ),
        ({"InputDataConfig": [channel(".", "a")]}, "'.' is not the name of a folder"),
        ({"InputDataConfig": [channel("..", "a")]}, "'..' is not the name of a folder"),
        ({"InputDataConfig": [channel("a", "a"), channel("a-manifest", "a")]}, "rename one"),
        ({"InputDataConfig": [channel("p", "a"), channel("p_0", "a")]}, "rename one"),
        (
            {"StoppingCondition": {"MaxRuntimeInSeconds": 2419201}},
            "Invalid MaxRuntimeInSeconds 2419201. The maximum value is 2419200",
        ),
        ({"EnableManagedSpotTraining": True}, "needs StoppingCondition.MaxWaitTimeInSeconds"),
        (
            {
                "EnableManagedSpotTraining": True,
                "StoppingCondition": {"MaxRuntimeInSeconds": 9, "MaxWaitTimeInSeconds": 8},
            },
            "Invalid MaxWaitTimeInSeconds 8",
        ),
        ({"ResourceConfig": {"InstanceGroups": [GROUP, GROUP]}}, "two groups have one name"),
        ({"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 0}}, "1 to 64"),
        ({"algorithm": {"MetricDefinitions": [{"Name": "m", "Regex": "("}]}}, "is not a regex"),
        ({"HyperParameters": {"k": "v" * 2501}}, "limit 2500"),
    ],
)
def test_refused(region, more, words):
    """With the member, its value and the hint; and no job is there."""
    region.put("a")
    error = refusal(region.create, "true", **more)
    assert words in error.message
    assert not region.call("ListTrainingJobs")["TrainingJobSummaries"]


RESERVED = (
    '"LocalPath" of "TensorBoardOutputConfig" cannot start with the following reserved path: '
    "[/opt/ml, /tmp, /usr/local/nvidia]"
)


@pytest.mark.parametrize(
    ("member", "path", "words"),
    [
        *(
            ("TensorBoardOutputConfig", path, RESERVED)
            for path in ("/opt/ml/output/tensorboard", "/opt/ml", "/tmp/x", "/usr/local/nvidia/x")
        ),
        ("TensorBoardOutputConfig", "tensorboard", "absolute path of a folder"),
        ("TensorBoardOutputConfig", "/x/../opt/ml/model", "absolute path of a folder"),
        ("TensorBoardOutputConfig", "/", "absolute path of a folder"),
        ("TensorBoardOutputConfig", "/usr", "another use"),
        ("TensorBoardOutputConfig", "/proc/self", "another use"),
        ("DebugHookConfig", "/opt/ml/input/data", "another use"),
        ("DebugHookConfig", "/opt/ml", "absolute path of a folder"),
        ("ProfilerConfig", "/opt", "absolute path of a folder"),
    ],
)
def test_report_folders_that_are_refused(region, member, path, words):
    """TensorBoard's in SageMaker's words; by name what could not be uploaded."""
    config = {"S3OutputPath": f"s3://{BUCKET}/r", "LocalPath": path}
    if member == "ProfilerConfig":
        config["ProfilingParameters"] = {"LocalPath": config.pop("LocalPath")}
    assert words in refusal(region.create, "true", **{member: config}).message


@pytest.mark.parametrize(
    ("member", "path", "folder"),
    [
        ("TensorBoardOutputConfig", "/opt/tensorboard", "tensorboard-output"),
        ("TensorBoardOutputConfig", "/tb-logs", "tensorboard-output"),
        ("DebugHookConfig", "/opt/ml/tensors", "debug-output"),
        ("ProfilerConfig", "/opt/ml/output/p", "profiler-output"),
    ],
)
def test_report_folders_that_are_accepted_are_uploaded(region, member, path, folder):
    """Wherever they are in the container; and nothing of them is on the host."""
    config = {"S3OutputPath": f"s3://{BUCKET}/r", "LocalPath": path}
    if member == "ProfilerConfig":
        config["ProfilingParameters"] = {"LocalPath": config.pop("LocalPath")}
    ended = region.run(f"mkdir -p {path}/run && echo x > {path}/run/f", **{member: config})
    assert ended["TrainingJobStatus"] == "Completed", region.log()
    assert region.objects("r/") == [f"r/job-1/{folder}/run/f"]
    assert not Path(path).exists()


def test_a_job_that_runs_is_not_deleted(region):
    """ResourceInUse, as the model says."""
    region.create("while :; do sleep 0.02; done")
    error = refusal(region.call, "DeleteTrainingJob", TrainingJobName="job-1")
    assert error.code == "ResourceInUse"
    region.call("StopTrainingJob", TrainingJobName="job-1")
    region.end()


def test_listing(region):
    """Filters, both orders, and pages that do not shift."""
    for name in ("b", "a", "c"):
        region.run("exit 1" if name == "c" else "true", name)

    def names(**parameters):
        answer = region.call("ListTrainingJobs", **parameters)
        return [job["TrainingJobName"] for job in answer["TrainingJobSummaries"]]

    assert names() == ["b", "a", "c"]
    assert names(SortBy="Name") == ["a", "b", "c"]
    assert names(SortBy="Name", SortOrder="Descending") == ["c", "b", "a"]
    assert names(StatusEquals="Failed") == ["c"]
    assert names(NameContains="A") == ["a"]
    created = region.describe("a")["CreationTime"]
    assert names(CreationTimeAfter=created) == ["a", "c"]
    assert names(CreationTimeBefore=created) == ["b", "a"]
    first = region.call("ListTrainingJobs", MaxResults=2)
    assert names(NextToken=first["NextToken"]) == ["c"]
    last = region.call("ListTrainingJobs", MaxResults=2, NextToken=first["NextToken"])
    assert "NextToken" not in last
    assert refusal(names, NextToken="nonsense").code == "ValidationException"


def test_tags(region):
    """From the request on, and gone with the job."""
    arn = region.create("true", Tags=[{"Key": "team", "Value": "a"}])
    add = [{"Key": "team", "Value": "b"}, {"Key": "x", "Value": ""}]
    assert region.call("AddTags", ResourceArn=arn, Tags=add)["Tags"] == add
    region.call("DeleteTags", ResourceArn=arn, TagKeys=["x", "absent"])
    assert region.call("ListTags", ResourceArn=arn)["Tags"] == add[:1]
    many = [{"Key": str(n), "Value": ""} for n in range(50)]
    assert refusal(region.call, "AddTags", ResourceArn=arn, Tags=many).code == (
        "ResourceLimitExceeded"
    )
    region.end()
    region.call("DeleteTrainingJob", TrainingJobName="job-1")
    assert region.call("ListTags", ResourceArn=arn)["Tags"] == []
    gone = refusal(region.call, "AddTags", ResourceArn=arn, Tags=add)
    assert gone.message == "Requested resource not found."
    cluster = arn.replace("training-job", "cluster")
    other = refusal(region.call, "DeleteTags", ResourceArn=cluster, TagKeys=["x"])
    assert "is not the ARN of a resource of this region" in other.message


def test_describe_holds_back_what_is_no_news(region, monkeypatch):
    """The first look of each client at once; the next when something has changed."""
    held = replace(region.jobs.resources._watch.subject, hold=60.0, settle=60.0)
    monkeypatch.setattr(region.jobs.resources._watch, "subject", held)
    region.create("while [ ! -e /opt/ml/input/go ]; do sleep 0.01; done")
    go = region.state / "work/training-jobs/job-1/algo-1/ml/input/go"
    wait_until(lambda: "progress" in str(region.describe()["SecondaryStatusTransitions"]), "it")
    look = {"TrainingJobName": "job-1"}
    assert region.call("DescribeTrainingJob", "one", **look)["SecondaryStatus"] == "Training"
    answers = []
    held = threading.Thread(
        target=lambda: answers.append(region.call("DescribeTrainingJob", "one", **look))
    )
    held.start()
    assert region.call("DescribeTrainingJob", "two", **look)["SecondaryStatus"] == "Training"
    assert not answers
    go.touch()
    held.join()
    assert answers[0]["SecondaryStatus"] == "Completed"  # held until the end, which is so near
    region.end()
    for _ in range(2):  # a job that has ended has no more news
        assert region.call("DescribeTrainingJob", "one", **look)["SecondaryStatus"] == "Completed"


def test_a_waiter_is_answered_at_the_end(region):
    """It takes no notice of what comes between, and would sleep for two minutes."""
    region.create("sleep 0.2")

    async def look():
        WAITS.set(True)
        describe = region.jobs.operations()["DescribeTrainingJob"]
        return await describe({"TrainingJobName": "job-1"})

    assert region._on_loop(look())["TrainingJobStatus"] == "Completed"


def test_a_client_that_follows_is_told_at_once(region, monkeypatch):
    """A change is not held back although the end may be near."""
    held = replace(region.jobs.resources._watch.subject, hold=60.0, settle=60.0)
    monkeypatch.setattr(region.jobs.resources._watch, "subject", held)

    async def look():
        CLIENT.set("one")
        FOLLOWS.set(True)
        describe = region.jobs.operations()["DescribeTrainingJob"]
        return (await describe({"TrainingJobName": "job-1"}))["SecondaryStatus"]

    region.create("while :; do sleep 0.02; done")
    while region._on_loop(look()) != "Training":
        pass


def test_describe_is_held_for_a_bounded_time(region, monkeypatch):
    """Then the same answer comes again."""
    held = replace(region.jobs.resources._watch.subject, hold=0.2, settle=0.1)
    monkeypatch.setattr(region.jobs.resources._watch, "subject", held)
    region.create("while :; do sleep 0.02; done")
    wait_until(lambda: "progress" in str(region.describe()["SecondaryStatusTransitions"]), "it")
    look = {"TrainingJobName": "job-1"}
    first = region.call("DescribeTrainingJob", "one", **look)
    began = time.monotonic()
    assert region.call("DescribeTrainingJob", "one", **look) == first
    assert time.monotonic() - began >= 0.3
    assert not region.jobs.resources._watch._waiting
    region.call("StopTrainingJob", TrainingJobName="job-1")
    region.end()


def test_members_that_aws_always_returns():
    """SDK 2's `Estimator.attach` reads KmsKeyId without asking; what was asked for stays."""
    request = {
        "TrainingJobName": "job",
        "AlgorithmSpecification": {"TrainingImage": "i", "MetricDefinitions": [{"Name": "loss"}]},
        "InputDataConfig": [channel("train", "data/", CompressionType="Gzip")],
        "OutputDataConfig": {"S3OutputPath": "s3://b/"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }
    found = new_document(request, "arn", "s3://b/model.tar.gz")
    assert found["OutputDataConfig"] == {
        "KmsKeyId": "",
        "CompressionType": "GZIP",
        "S3OutputPath": "s3://b/",
    }
    assert found["AlgorithmSpecification"]["EnableSageMakerMetricsTimeSeries"] is True
    assert found["ResourceConfig"]["VolumeSizeInGB"] == 30
    assert found["ProfilingStatus"] == "Disabled"
    (data,) = found["InputDataConfig"]
    assert (data["CompressionType"], data["RecordWrapperType"]) == ("Gzip", "None")
    assert data["DataSource"]["S3DataSource"]["S3DataDistributionType"] == "FullyReplicated"
    assert "S3DataDistributionType" not in str(request)
