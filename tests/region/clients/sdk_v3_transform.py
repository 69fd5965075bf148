"""A batch transform script for SDK 3: core's Transformer, and the resource TransformJob.

Arguments: image for serving. Prints one JSON object on its last line.
"""

import io
import json
import logging
import sys
import tarfile
import time

from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.resources import Model, TransformJob
from sagemaker.core.shapes import (
    ContainerDefinition,
    DataProcessing,
    TransformDataSource,
    TransformInput,
    TransformOutput,
    TransformResources,
    TransformS3DataSource,
)
from sagemaker.core.transformer import Transformer

IMAGE = sys.argv[1]
NAME = f"transform-v3-{time.time_ns()}"
ROLE = get_execution_role()
PROGRAM = """
import json
def model_fn(model_dir): return None
def input_fn(body, content_type): return body.decode() if isinstance(body, bytes) else body
def predict_fn(text, model):
    return "".join(json.dumps({"sum": sum(json.loads(row))}) + "\\n" for row in text.splitlines())
def output_fn(prediction, accept): return prediction, "application/jsonlines"
"""
logging.basicConfig(level=logging.INFO)  # SDK 3 logs what a job prints, and sets up no handler

session = Session()
bucket = session.default_bucket()
s3 = session.boto_session.client("s3")


def put(key, body):
    s3.put_object(Bucket=bucket, Key=f"{NAME}/{key}", Body=body)
    return f"s3://{bucket}/{NAME}/{key}"


def read(key):
    return s3.get_object(Bucket=bucket, Key=f"{NAME}/{key}")["Body"].read().decode()


archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w:gz") as tar:
    entry = tarfile.TarInfo("code/inference.py")
    entry.size = len(PROGRAM)
    tar.addfile(entry, io.BytesIO(PROGRAM.encode()))
Model.create(
    model_name=NAME,
    primary_container=ContainerDefinition(
        image=IMAGE, model_data_url=put("model.tar.gz", archive.getvalue())
    ),
    execution_role_arn=ROLE,
)
put("in/a.jsonl", '{"id": 1, "features": [1, 2]}\n{"id": 2, "features": [3]}\n')

transformer = Transformer(
    model_name=NAME,
    instance_count=1,
    instance_type="ml.m5.large",
    output_path=f"s3://{bucket}/{NAME}/out",
    assemble_with="Line",
    accept="application/jsonlines",
    sagemaker_session=session,
)
transformer.transform(
    f"s3://{bucket}/{NAME}/in",
    content_type="application/jsonlines",
    split_type="Line",
    input_filter="$.features",
    join_source="Input",
    output_filter="$['id','SageMakerOutput']",
    wait=True,
    logs=False,
)

job = TransformJob.create(
    transform_job_name=NAME,
    model_name=NAME,
    transform_input=TransformInput(
        data_source=TransformDataSource(
            s3_data_source=TransformS3DataSource(
                s3_data_type="S3Prefix", s3_uri=f"s3://{bucket}/{NAME}/in/a.jsonl"
            )
        ),
        content_type="application/jsonlines",
        split_type="Line",
    ),
    transform_output=TransformOutput(
        s3_output_path=f"s3://{bucket}/{NAME}/second", accept="application/jsonlines"
    ),
    transform_resources=TransformResources(instance_type="ml.m5.large", instance_count=1),
    data_processing=DataProcessing(input_filter="$.features", output_filter="$.sum"),
    batch_strategy="SingleRecord",
)
job.wait(poll=1, logs=True)
job.refresh()
listed = [each.transform_job_name for each in TransformJob.get_all(name_contains=NAME)]
print(
    json.dumps(
        {
            "joined": [json.loads(line) for line in read("out/a.jsonl.out").splitlines()],
            "sums": read("second/a.jsonl.out").split(),
            "status": job.transform_job_status,
            "listed": len(listed),
        }
    )
)
