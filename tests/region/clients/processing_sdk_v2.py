"""A preprocessing script as people wrote it for SDK 2. Nothing in it is local.

ScriptProcessor with a script of this machine, FrameworkProcessor with a folder, Processor with
a command, and one that fails. Arguments: image, folder with CSV files, folder with the programs.
Prints one JSON object on its last line.
"""

import json
import sys

import boto3
import sagemaker
from sagemaker.exceptions import UnexpectedStatusException
from sagemaker.processing import (
    FrameworkProcessor,
    ProcessingInput,
    ProcessingJob,
    ProcessingOutput,
    Processor,
    ScriptProcessor,
)
from sagemaker.s3 import S3Downloader
from sagemaker.sklearn import SKLearn

IMAGE, DATA, PROGRAMS = sys.argv[1:4]
session = sagemaker.Session()
client = boto3.client("sagemaker")
common = {
    "role": sagemaker.get_execution_role(),
    "image_uri": IMAGE,
    "instance_count": 1,
    "instance_type": "ml.m5.large",
    "sagemaker_session": session,
}

split = ScriptProcessor(
    command=["python3"], base_job_name="split-v2", env={"STAGE": "test"}, **common
)
split.run(
    code=f"{PROGRAMS}/split.py",
    inputs=[ProcessingInput(source=DATA, destination="/opt/ml/processing/input/data")],
    outputs=[
        ProcessingOutput(output_name="train", source="/opt/ml/processing/output/train"),
        ProcessingOutput(output_name="test", source="/opt/ml/processing/output/test"),
    ],
    arguments=["--ratio", "0.75"],
    logs=True,
)
job = split.latest_job.describe()
parts = {
    output["OutputName"]: output["S3Output"]["S3Uri"]
    for output in job["ProcessingOutputConfig"]["Outputs"]
}

evaluate = FrameworkProcessor(
    estimator_cls=SKLearn,
    framework_version="1.2-1",
    command=["python3"],
    base_job_name="evaluate-v2",
    **common,
)
evaluate.run(
    code="evaluate.py",
    source_dir=f"{PROGRAMS}/source",
    inputs=[ProcessingInput(source=parts["test"], destination="/opt/ml/processing/test")],
    outputs=[ProcessingOutput(output_name="report", source="/opt/ml/processing/evaluation")],
    arguments=["--strict"],
    wait=False,
    logs=False,
)
broken = Processor(
    entrypoint=["/bin/sh", "-c", "echo about to fail; exit 3"], base_job_name="broken", **common
)
broken.run(wait=False, logs=False)
waiter = client.get_waiter("processing_job_completed_or_stopped")
waiter.wait(ProcessingJobName=evaluate.latest_job.job_name)
report = evaluate.latest_job.outputs[0].destination
try:
    broken.latest_job.wait(logs=False)
except UnexpectedStatusException as error:
    refused = str(error)
attached = ProcessingJob.from_processing_name(session, split.latest_job.job_name)
print()
print(
    json.dumps(
        {
            "status": job["ProcessingJobStatus"],
            "message": json.loads(job["ExitMessage"]),
            "rows": {
                name: len(S3Downloader.read_file(f"{uri}/part.csv", session).splitlines())
                for name, uri in parts.items()
            },
            "report": json.loads(S3Downloader.read_file(f"{report}/evaluation.json", session)),
            "attached": [each.destination for each in attached.inputs],
            "refused": refused,
        }
    )
)
