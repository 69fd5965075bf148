"""A preprocessing job as people write it with boto3. Nothing in it is local.

Arguments: image, folder with CSV files, folder with the programs. Prints one JSON object.
"""

import json
import os
import sys
import time
from pathlib import Path

import boto3

IMAGE, DATA, PROGRAMS = sys.argv[1:4]
sagemaker, s3, logs = (boto3.client(name) for name in ("sagemaker", "s3", "logs"))
name = f"processing-boto3-{time.time_ns()}"
s3.create_bucket(Bucket=name)
for path in Path(DATA).glob("*.csv"):
    s3.upload_file(str(path), name, f"data/{path.name}")
s3.upload_file(f"{PROGRAMS}/split.py", name, "code/split.py")


def given(part, key):
    return {
        "InputName": part,
        "S3Input": {
            "S3Uri": f"s3://{name}/{key}",
            "LocalPath": f"/opt/ml/processing/input/{part}",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
        },
    }


def taken(part):
    return {
        "OutputName": part,
        "S3Output": {
            "S3Uri": f"s3://{name}/out/{part}",
            "LocalPath": f"/opt/ml/processing/output/{part}",
            "S3UploadMode": "EndOfJob",
        },
    }


sagemaker.create_processing_job(
    ProcessingJobName=name,
    RoleArn=os.environ["SAGEMAKER_ROLE"],
    AppSpecification={
        "ImageUri": IMAGE,
        "ContainerEntrypoint": ["python3", "/opt/ml/processing/input/code/split.py"],
        "ContainerArguments": ["--ratio", "0.75"],
    },
    ProcessingInputs=[given("data", "data/"), given("code", "code/split.py")],
    ProcessingOutputConfig={"Outputs": [taken("train"), taken("test")]},
    ProcessingResources={
        "ClusterConfig": {"InstanceCount": 2, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
    },
    StoppingCondition={"MaxRuntimeInSeconds": 600},
    Environment={"STAGE": "test"},
)
sagemaker.get_waiter("processing_job_completed_or_stopped").wait(ProcessingJobName=name)
job = sagemaker.describe_processing_job(ProcessingJobName=name)
pages = sagemaker.get_paginator("list_processing_jobs").paginate(NameContains=name)
listed = pages.search("ProcessingJobSummaries[].ProcessingJobName")
streams = logs.describe_log_streams(
    logGroupName="/aws/sagemaker/ProcessingJobs", logStreamNamePrefix=f"{name}/"
)["logStreams"]
objects = s3.list_objects_v2(Bucket=name, Prefix="out/")["Contents"]
print(
    json.dumps(
        {
            "status": job["ProcessingJobStatus"],
            "message": job["ExitMessage"],
            "listed": [
                each["ProcessingJobName"] for each in pages.search("ProcessingJobSummaries")
            ],
            "streams": sorted(each["logStreamName"].rsplit("-", 1)[0] for each in streams),
            "keys": [
                each["Key"] for each in s3.list_objects_v2(Bucket=name, Prefix="out/")["Contents"]
            ],
            "name": name,
        }
    )
)
