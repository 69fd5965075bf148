"""A preprocessing script for SDK 3: ScriptProcessor, FrameworkProcessor, and the resource class.

Nothing in it is local. Arguments: image, folder with CSV files, folder with the programs. Prints
one JSON object on its last line.
"""

import json
import logging
import sys
import time

import boto3
from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.processing import FrameworkProcessor, ScriptProcessor
from sagemaker.core.resources import ProcessingJob
from sagemaker.core.s3 import S3Downloader
from sagemaker.core.shapes import (
    AppSpecification,
    ProcessingClusterConfig,
    ProcessingInput,
    ProcessingOutput,
    ProcessingResources,
    ProcessingS3Input,
    ProcessingS3Output,
)

IMAGE, DATA, PROGRAMS = sys.argv[1:4]
PARTS = ("train", "test")
ROLE = get_execution_role()
logging.basicConfig(level=logging.INFO)
session = Session()
bucket = session.default_bucket()
base = f"s3://{bucket}/processing-v3-{time.time_ns()}"


def given(name, uri, path):
    return ProcessingInput(
        input_name=name,
        s3_input=ProcessingS3Input(
            s3_uri=uri, local_path=path, s3_data_type="S3Prefix", s3_input_mode="File"
        ),
    )


def taken(name, path, mode="EndOfJob"):
    return ProcessingOutput(
        output_name=name,
        s3_output=ProcessingS3Output(s3_uri=f"{base}/{name}", local_path=path, s3_upload_mode=mode),
    )


common = {"image_uri": IMAGE, "role": ROLE, "instance_count": 1, "instance_type": "ml.m5.large"}
split = ScriptProcessor(
    command=["python3"], base_job_name="split-v3", env={"STAGE": "test"}, **common
)
split.run(
    code=f"{PROGRAMS}/split.py",
    inputs=[given("data", DATA, "/opt/ml/processing/input/data")],
    outputs=[
        taken("train", "/opt/ml/processing/output/train"),
        taken("test", "/opt/ml/processing/output/test", "Continuous"),
    ],
    arguments=["--ratio", "0.75"],
    wait=True,
    logs=True,
)
job = ProcessingJob.get(split.latest_job.processing_job_name)

evaluate = FrameworkProcessor(command=["python3"], base_job_name="evaluate-v3", **common)
evaluate.run(
    code="evaluate.py",
    source_dir=f"{PROGRAMS}/source",
    inputs=[given("test", f"{base}/test/", "/opt/ml/processing/test")],
    outputs=[taken("report", "/opt/ml/processing/evaluation")],
    arguments=["--strict"],
    wait=False,
)
name = f"empty-v3-{time.time_ns()}"
created = ProcessingJob.create(
    processing_job_name=name,
    role_arn=ROLE,
    app_specification=AppSpecification(
        image_uri=IMAGE, container_entrypoint=["python3", "-c", "print('nothing')"]
    ),
    processing_resources=ProcessingResources(
        cluster_config=ProcessingClusterConfig(
            instance_count=1, instance_type="ml.m5.large", volume_size_in_gb=1
        )
    ),
)
created.wait(poll=1)
client = boto3.client("sagemaker")
evaluated = evaluate.latest_job.processing_job_name
client.get_waiter("processing_job_completed_or_stopped").wait(ProcessingJobName=evaluated)


def read(uri):
    return S3Downloader.read_file(uri, session)


print(
    json.dumps(
        {
            "status": job.processing_job_status,
            "message": json.loads(job.exit_message),
            "rows": {
                part: len(read(f"{base}/{part}/part.csv").splitlines())
                for part in ("train", "test")
            },
            "report": json.loads(read(f"{base}/report/evaluation.json")),
            "created": created.processing_job_status,
            "listed": name in [each.processing_job_name for each in ProcessingJob.get_all()],
        }
    )
)
