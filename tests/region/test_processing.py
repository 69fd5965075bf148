"""Processing jobs through botocore's client, whose answers are checked against AWS's model."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from sagemaker_byoc.region.core.account import Account

pytestmark = pytest.mark.slow

BUCKET = "processing-bucket"


@pytest.fixture(scope="module")
def client(region):
    region.client("s3").create_bucket(Bucket=BUCKET)
    region.client("s3").put_object(Bucket=BUCKET, Key="in/a.csv", Body=b"1\n")
    return region.client("sagemaker")


def request(name, *command, **more):
    return {
        "ProcessingJobName": name,
        "RoleArn": Account().role,
        "AppSpecification": {"ImageUri": "byoc-train", "ContainerEntrypoint": [*command]},
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": "ml.m5.large",
                "VolumeSizeInGB": 1,
            }
        },
        **more,
    }


def test_a_job_from_its_request_to_its_objects(region, client):
    """Every member that a description can have."""
    client.create_processing_job(
        **request("whole", "sh", "-c", "cp -v /opt/ml/processing/in/a.csv /opt/ml/processing/out"),
        ProcessingInputs=[
            {
                "InputName": "in",
                "S3Input": {
                    "S3Uri": f"s3://{BUCKET}/in/",
                    "LocalPath": "/opt/ml/processing/in",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                },
            }
        ],
        ProcessingOutputConfig={
            "KmsKeyId": "alias/mine",
            "Outputs": [
                {
                    "OutputName": "out",
                    "S3Output": {
                        "S3Uri": f"s3://{BUCKET}/out",
                        "LocalPath": "/opt/ml/processing/out",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ],
        },
        Environment={"A": "b"},
        NetworkConfig={
            "EnableInterContainerTrafficEncryption": True,
            "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        },
        ExperimentConfig={"TrialComponentDisplayName": "whole"},
        Tags=[{"Key": "a", "Value": "b"}],
    )
    client.get_waiter("processing_job_completed_or_stopped").wait(ProcessingJobName="whole")
    found = client.describe_processing_job(ProcessingJobName="whole")
    assert found["ProcessingJobStatus"] == "Completed"
    assert found["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400}
    source = found["ProcessingInputs"][0]["S3Input"]
    assert source["S3DataDistributionType"] == "FullyReplicated"
    body = region.client("s3").get_object(Bucket=BUCKET, Key="out/a.csv")["Body"].read()
    assert body == b"1\n"
    logs = region.client("logs").describe_log_streams(
        logGroupName="/aws/sagemaker/ProcessingJobs", logStreamNamePrefix="whole/algo-1-"
    )
    assert len(logs["logStreams"]) == 1


def test_jobs_are_listed_by_name_and_status(client):
    for name in ("list-b", "list-a"):
        client.create_processing_job(**request(name, "true"))
    for name in ("list-a", "list-b"):
        client.get_waiter("processing_job_completed_or_stopped").wait(ProcessingJobName=name)
    wanted = {"NameContains": "list-", "SortBy": "Name", "SortOrder": "Ascending"}
    first = client.list_processing_jobs(**wanted, MaxResults=1)
    second = client.list_processing_jobs(**wanted, MaxResults=1, NextToken=first["NextToken"])
    listed = [page["ProcessingJobSummaries"][0] for page in (first, second)]
    assert [each["ProcessingJobName"] for each in listed] == ["list-a", "list-b"]
    assert "NextToken" not in second
    failed = client.list_processing_jobs(StatusEquals="Failed")
    assert not failed["ProcessingJobSummaries"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ProcessingJobName": "a_b"}, "Value 'a_b' at 'processingJobName' failed to satisfy"),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 777601}}, "less than or equal to 777600"),
        ({"Environment": {f"V{n}": "" for n in range(101)}}, "less than or equal to 100"),
        ({"ProcessingInputs": [{"InputName": str(n)} for n in range(11)]}, "or equal to 10"),
    ],
)
def test_the_model_refuses(client, more, words):
    with pytest.raises(ClientError, match=words):
        client.create_processing_job(**{**request("refused", "true"), **more})


def test_a_script_reaches_the_region(region, client):
    """With its own keys, as boto3 in a script does."""
    code = (
        "import os, urllib.request as u;"
        "print(os.environ['AWS_ENDPOINT_URL'], os.environ['AWS_ACCESS_KEY_ID'] != '')"
    )
    client.create_processing_job(**request("reach", "python3", "-c", code))
    client.get_waiter("processing_job_completed_or_stopped").wait(ProcessingJobName="reach")
    (event,) = region.client("logs").filter_log_events(
        logGroupName="/aws/sagemaker/ProcessingJobs", logStreamNamePrefix="reach/"
    )["events"]
    assert event["message"] == f"{region.url} True"
