"""Launch train.py as a training job with boto3: in AWS, or in a region of this machine.

    python launch.py DATA IMAGE [--role ARN]

DATA is what make_data.py has written, IMAGE a repository and a tag. It prints where the model is.
"""

import argparse
import os
import time
from pathlib import Path

import boto3


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("image")
    parser.add_argument("--role", default=os.environ.get("SAGEMAKER_ROLE"))
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()

    session = boto3.Session()
    account = session.client("sts").get_caller_identity()["Account"]
    registry = f"{account}.dkr.ecr.{session.region_name}.amazonaws.com"
    bucket = f"sagemaker-{session.region_name}-{account}"
    s3, sagemaker = session.client("s3"), session.client("sagemaker")

    channels = []
    for name in ("train", "test"):
        key = f"digits/{name}/digits.csv"
        s3.upload_file(str(arguments.data / name / "digits.csv"), bucket, key)
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/digits/{name}/"}
        channels.append({"ChannelName": name, "DataSource": {"S3DataSource": source}})

    job = f"digits-{time.strftime('%Y%m%d-%H%M%S')}"
    sagemaker.create_training_job(
        TrainingJobName=job,
        AlgorithmSpecification={
            "TrainingImage": f"{registry}/{arguments.image}",
            "TrainingInputMode": "File",
        },
        RoleArn=arguments.role,
        InputDataConfig=channels,
        HyperParameters={"epochs": str(arguments.epochs)},
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/digits/jobs"},
        ResourceConfig={
            "InstanceType": "ml.m5.large",
            "InstanceCount": 1,
            "VolumeSizeInGB": 10,
        },
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
    )
    sagemaker.get_waiter("training_job_completed_or_stopped").wait(
        TrainingJobName=job, WaiterConfig={"Delay": 5, "MaxAttempts": 720}
    )
    found = sagemaker.describe_training_job(TrainingJobName=job)
    print(f"{job}: {found['TrainingJobStatus']}")
    print(found["ModelArtifacts"]["S3ModelArtifacts"])


if __name__ == "__main__":
    main()
