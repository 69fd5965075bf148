"""Training jobs without a wire."""

from __future__ import annotations

import pytest
from tests.unit.region.services.sagemaker.jobs_region import BUCKET, JobsRegion

from sagemaker_byoc.region.engines.process import make_engine
from sagemaker_byoc.region.services.sagemaker.training_jobs.training_jobs import TrainingJobs

__all__ = ["BUCKET", "TrainingRegion", "channel", "make_engine"]


class TrainingRegion(JobsRegion):
    def make_jobs(self, context):
        return TrainingJobs(context)

    def create(self, script=None, name="job-1", **more):
        """A job whose container runs `script` with sh, and no supervisor."""
        algorithm = {"TrainingImage": "byoc-train", "TrainingInputMode": "File"}
        if script is not None:
            algorithm["ContainerEntrypoint"] = ["/bin/sh", "-c", script]
        algorithm |= more.pop("algorithm", {})
        request = {
            "TrainingJobName": name,
            "AlgorithmSpecification": algorithm,
            "RoleArn": "arn:aws:iam::000000000000:role/service-role/SageMakerRole",
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
            "ResourceConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": more.pop("hosts", 1),
                "VolumeSizeInGB": 1,
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
            **more,
        }
        return self.call("CreateTrainingJob", **request)["TrainingJobArn"]


def channel(name, uri, data_type="S3Prefix", source=None, **more):
    return {
        "ChannelName": name,
        "DataSource": {
            "S3DataSource": {
                "S3DataType": data_type,
                "S3Uri": f"s3://{BUCKET}/{uri}",
                **(source or {}),
            }
        },
        **more,
    }


@pytest.fixture
def region(tmp_path, engine):
    made = TrainingRegion(tmp_path / "state", engine)
    yield made
    made.close()
