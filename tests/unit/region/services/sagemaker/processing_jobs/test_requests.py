"""What is refused before anything is made; describing, listing, deleting, tags, and lost jobs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.unit.region.services.sagemaker.jobs_region import BUCKET
from tests.unit.region.services.sagemaker.processing_jobs.conftest import (
    PROCESSING,
    ProcessingRegion,
    given,
    request,
    taken,
)

from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.engines import process
from sagemaker_byoc.region.services.sagemaker.processing_jobs.documents import with_defaults
from sagemaker_byoc.region.services.sagemaker.processing_jobs.processing_plan import plan_of
from sagemaker_byoc.region.wire.operations import AwsError

ATHENA = {"AthenaDatasetDefinition": {"Catalog": "c"}, "LocalPath": f"{PROCESSING}/a"}
COUNT = {"InstanceCount": 1}


def refusal(call, *arguments, **parameters):
    with pytest.raises(AwsError) as found:
        call(*arguments, **parameters)
    return found.value


def cluster(**more):
    return {"ProcessingResources": {"ClusterConfig": {"VolumeSizeInGB": 1, **more}}}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"inputs": [given("a", "a", S3InputMode=None)]},
            'Input a missing one or more required fields for SageMaker-managed S3Input: "S3Input',
        ),
        ({"inputs": [given("a", "a", LocalPath=None)]}, 'S3Input: "LocalPath"'),
        ({"inputs": [given("a", "a", "/opt/ml/input/a")]}, "begins with /opt/ml/processing/"),
        ({"inputs": [given("a", "a", f"{PROCESSING}/../x")]}, "begins with /opt/ml/processing/"),
        ({"inputs": [given("a", "a", "processing/x")]}, "begins with /opt/ml/processing/"),
        ({"inputs": [given("a", "a", f"{PROCESSING}/a\nb")]}, "can't be printed"),
        ({"inputs": [given("a", "a", S3CompressionType="Gzip")]}, "only be used with S3InputMode"),
        (
            {"inputs": [given("a", "a"), given("b", "a", f"{PROCESSING}/a/")]},
            "is used by two inputs",
        ),
        (
            {"inputs": [given("a", "a"), given("a", "a", f"{PROCESSING}/b")]},
            "InputName 'a' is also used as InputName",
        ),
        (
            {"inputs": [given("a", "a")], "outputs": [taken("a", path=f"{PROCESSING}/b")]},
            "OutputName 'a' is also used as InputName",
        ),
        (
            {"inputs": [{"InputName": "q", "DatasetDefinition": ATHENA}]},
            "AthenaDatasetDefinition is not supported by this region: store the result",
        ),
        ({"inputs": [{"InputName": "q"}]}, "exactly one of S3Input and DatasetDefinition"),
        (
            {"inputs": [given("p", "a", S3InputMode="Pipe"), given("q", "a", f"{PROCESSING}/p_0")]},
            "leads through the pipe",
        ),
        ({"outputs": [taken("o", path="/opt/ml/model")]}, "begins with /opt/ml/processing/"),
        ({"outputs": [{"OutputName": "o"}]}, "exactly one of S3Output and FeatureStoreOutput"),
        (
            {"outputs": [{"OutputName": "o", "FeatureStoreOutput": {"FeatureGroupName": "g"}}]},
            "FeatureStoreOutput is not supported by this region",
        ),
        (cluster(), "InstanceType is needed"),
        (cluster(InstanceType="ml.m5.large", InstanceCount=65), "1 to 64 instances"),
        (
            cluster(InstanceType="x", InstancePreferences=[{"InstanceType": "y"}]),
            "mutually exclusive",
        ),
        (
            cluster(InstanceCount=1, InstancePreferences=[{"InstanceType": "y"} | COUNT]),
            "or once in ClusterConfig",
        ),
    ],
)
def test_a_plan_is_refused(more, words):
    """With the member, its value and the hint."""
    assert words in refusal(plan_of, request("true", **more)).message


def test_a_plan():
    plan = plan_of(
        request(
            "true",
            inputs=[given("a", "x/y", S3DataDistributionType="ShardedByS3Key")],
            outputs=[taken("o", "z/", mode="Continuous"), taken("p", path=f"{PROCESSING}/")],
            hosts=2,
            NetworkConfig={"EnableNetworkIsolation": True},
        )
    )
    assert plan.hosts == ("algo-1", "algo-2")
    assert plan.isolated
    assert plan.max_runtime == 86400
    (channel,) = plan.inputs
    assert (channel.folder, channel.bucket, channel.key) == ("processing/a", BUCKET, "x/y")
    assert [each.folder for each in plan.outputs] == ["processing/o", "processing"]
    assert [each.prefix for each in plan.outputs] == ["z", "p"]
    assert [each.is_continuous for each in plan.outputs] == [True, False]


def test_the_first_preferred_instance_is_selected():
    preferences = [
        {"InstanceType": "ml.m5.large", "InstanceCount": 2},
        {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
    ]
    asked = request("true", **cluster(InstancePreferences=preferences))
    plan = plan_of(asked)
    assert (plan.instance_type, plan.hosts) == ("ml.m5.large", ("algo-1", "algo-2"))
    described = with_defaults(asked)["ProcessingResources"]["ClusterConfig"]
    assert described["SelectedInstanceType"] == "ml.m5.large"
    assert described["SelectedInstanceCount"] == 2
    assert "InstanceCount" not in described


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"application": {"ImageUri": "absent:1"}}, "byoc build train PROGRAM --tag absent:1"),
        ({"inputs": [given("a", "nothing")]}, "No S3 objects found under S3 URL"),
        (
            {
                "outputs": [
                    taken("o")
                    | {
                        "S3Output": {
                            "S3Uri": "s3://absent/x",
                            "LocalPath": PROCESSING,
                            "S3UploadMode": "EndOfJob",
                        }
                    }
                ]
            },
            "no bucket 'absent'. Create it first",
        ),
    ],
)
def test_refused(region, more, words):
    """And no job is there."""
    assert words in refusal(region.create, "true", **more).message
    assert not region.call("ListProcessingJobs")["ProcessingJobSummaries"]


@pytest.mark.slow
def test_an_image_without_a_program_needs_a_command(region):
    error = refusal(region.create)
    assert "AppSpecification.ContainerEntrypoint is needed: byoc-train:latest" in error.message


@pytest.mark.slow
def test_names_tags_lists_and_deletion(region):
    arn = region.create("true", Tags=[{"Key": "a", "Value": "b"}])
    assert arn == "arn:aws:sagemaker:us-east-1:000000000000:processing-job/job-1"
    error = refusal(region.create, "true")
    assert error.code == "ResourceInUse"
    assert error.message.startswith("Processing job names must be unique within an AWS account")
    region.end()
    (summary,) = region.call("ListProcessingJobs", StatusEquals="Completed")[
        "ProcessingJobSummaries"
    ]
    assert summary["ProcessingJobArn"] == arn
    assert region.call("ListTags", ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "b"}]
    assert (
        "status Completed"
        in refusal(region.call, "StopProcessingJob", ProcessingJobName="job-1").message
    )
    region.call("DeleteProcessingJob", ProcessingJobName="job-1")
    error = refusal(region.describe)
    assert (error.code, error.message) == ("ValidationException", "Requested resource not found.")


REGION = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.unit.region.services.sagemaker.processing_jobs.conftest import ProcessingRegion
from sagemaker_byoc.region.engines.process import make_engine
scratch = Path({state!r}).with_name("scratch"); scratch.mkdir()
region = ProcessingRegion(Path({state!r}), make_engine(scratch))
region.create("setsid sleep 600 & echo started; wait")
region.wait_for_line("started")
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_killed_region_starts_again(engine, tmp_path):
    """Its running job has failed, and none of its processes and files is left."""
    state = tmp_path / "state"
    program = textwrap.dedent(REGION.format(root=str(Path(__file__).parents[6]), state=str(state)))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as killed:
        try:
            assert killed.stdout.readline() == b"ready\n"
        finally:
            killed.kill()
    tree = Tree(state / "work/processing-jobs/job-1/algo-1/ml")
    assert [*process.find(tree)]
    region = ProcessingRegion(state, engine)
    try:
        assert not [*process.find(tree)]
        lost = region.describe("job-1")
        assert lost["ProcessingJobStatus"] == "Failed"
        assert lost["FailureReason"].startswith("InternalServerError: ")
        assert lost["ProcessingEndTime"]
        assert not (state / "work/processing-jobs").exists()
        assert region.run("true", "job-2")["ProcessingJobStatus"] == "Completed"
    finally:
        region.close()
