"""Processing jobs without a wire."""

from __future__ import annotations

import pytest
from tests.unit.region.services.sagemaker.jobs_region import BUCKET, JobsRegion

from sagemaker_byoc.region.services.sagemaker.processing_jobs.processing_jobs import (
    ProcessingJobs,
)

PROCESSING = "/opt/ml/processing"


class ProcessingRegion(JobsRegion):
    def make_jobs(self, context):
        return ProcessingJobs(context)

    def create(self, script=None, name="job-1", **more):
        """A job whose container runs `script` with sh."""
        return self.call("CreateProcessingJob", **request(script, name, **more))["ProcessingJobArn"]


def request(script=None, name="job-1", inputs=(), outputs=(), application=None, **more):
    found = {"ImageUri": "byoc-train"}
    if script is not None:
        found["ContainerEntrypoint"] = ["/bin/sh", "-c", script]
    asked = {
        "ProcessingJobName": name,
        "AppSpecification": {**found, **(application or {})},
        "RoleArn": "arn:aws:iam::000000000000:role/service-role/SageMakerRole",
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": more.pop("hosts", 1),
                "VolumeSizeInGB": 1,
            }
        },
        **more,
    }
    if inputs:
        asked["ProcessingInputs"] = [*inputs]
    if outputs:
        asked["ProcessingOutputConfig"] = {"Outputs": [*outputs]}
    return asked


def given(name, uri, path=None, **more):
    """An input of objects below `uri`, at PROCESSING/NAME."""
    source = {
        "S3Uri": f"s3://{BUCKET}/{uri}",
        "LocalPath": path or f"{PROCESSING}/{name}",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        **more,
    }
    return {"InputName": name, "S3Input": {k: v for k, v in source.items() if v is not None}}


def taken(name, uri=None, path=None, mode="EndOfJob"):
    """An output of PROCESSING/NAME."""
    target = {
        "S3Uri": f"s3://{BUCKET}/{uri or name}",
        "LocalPath": path or f"{PROCESSING}/{name}",
        "S3UploadMode": mode,
    }
    return {"OutputName": name, "S3Output": target}


@pytest.fixture
def region(tmp_path, engine):
    made = ProcessingRegion(tmp_path / "state", engine)
    yield made
    made.close()
