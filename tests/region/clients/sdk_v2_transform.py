"""A batch transform script as people wrote them for SDK 2: an estimator's model, a model by name.

Arguments: image for training, image for serving, folder with train/ and test/. Prints one JSON
object on its last line.
"""

import io
import json
import sys
import tarfile
import time

import boto3
import sagemaker
from sagemaker.estimator import Estimator
from sagemaker.exceptions import UnexpectedStatusException
from sagemaker.inputs import BatchDataCaptureConfig
from sagemaker.transformer import Transformer

TRAIN_IMAGE, SERVE_IMAGE, DATA = sys.argv[1:4]
NAME = f"transform-v2-{time.time_ns()}"
PROGRAM = """
def model_fn(model_dir): return None
def input_fn(body, content_type): return body.decode() if isinstance(body, bytes) else body
def predict_fn(text, model):
    if "bad" in text: raise ValueError("on purpose")
    return "".join(f"{sum(map(float, row.split(',')))}\\n" for row in text.splitlines())
def output_fn(prediction, accept): return prediction, "text/csv"
"""

session = sagemaker.Session()
role = sagemaker.get_execution_role()
bucket = session.default_bucket()
s3 = boto3.client("s3")


def put(key, body):
    s3.put_object(Bucket=bucket, Key=f"{NAME}/{key}", Body=body)
    return f"s3://{bucket}/{NAME}/{key}"


def read(uri):
    found = s3.get_object(Bucket=bucket, Key=uri.removeprefix(f"s3://{bucket}/"))
    return found["Body"].read().decode()


# 1. What an estimator has trained: predictions as JSON for rows of CSV whose first column, the
#    label, is not for the model.
estimator = Estimator(
    image_uri=TRAIN_IMAGE,
    role=role,
    instance_count=1,
    instance_type="ml.m5.large",
    hyperparameters={"epochs": 1},
    max_run=300,
)
estimator.fit(
    {
        name: session.upload_data(f"{DATA}/{name}", key_prefix=f"{NAME}/{name}")
        for name in ("train", "test")
    },
    logs=False,
)
estimator.image_uri = SERVE_IMAGE
transformer = estimator.transformer(
    instance_count=1,
    instance_type="ml.m5.large",
    strategy="MultiRecord",
    assemble_with="Line",
    accept="application/json",
    max_concurrent_transforms=1,
    max_payload=1,
    env={"COLOR": "blue"},
)
transformer.transform(
    f"s3://{bucket}/{NAME}/test",
    content_type="text/csv",
    split_type="Line",
    input_filter="$[1:]",
    wait=True,
    logs=False,
)
(digits,) = read(f"{transformer.output_path}/digits.csv.out").splitlines()
transformer.delete_model()

# 2. A model by its name, joined with its input, with ids for Model Monitor.
archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w:gz") as tar:
    entry = tarfile.TarInfo("code/inference.py")
    entry.size = len(PROGRAM)
    tar.addfile(entry, io.BytesIO(PROGRAM.encode()))
session.create_model(
    NAME, role, {"Image": SERVE_IMAGE, "ModelDataUrl": put("model.tar.gz", archive.getvalue())}
)
put("in/a.csv", "x1,1,2\nx2,3,4\n")
put("in/more/b.csv", "x3,5,6")
by_name = Transformer(
    model_name=NAME,
    instance_count=2,
    instance_type="ml.m5.large",
    output_path=f"s3://{bucket}/{NAME}/out",
    assemble_with="Line",
    accept="text/csv",
)
by_name.transform(
    f"s3://{bucket}/{NAME}/in",
    content_type="text/csv",
    split_type="Line",
    input_filter="$[1:]",
    join_source="Input",
    output_filter="$[0,-1]",
    batch_data_capture_config=BatchDataCaptureConfig(
        destination_s3_uri=f"s3://{bucket}/{NAME}/captured", generate_inference_id=True
    ),
    model_client_config={"InvocationsTimeoutInSeconds": 60, "InvocationsMaxRetries": 1},
    wait=True,
    logs=True,
)
captured = s3.list_objects_v2(Bucket=bucket, Prefix=f"{NAME}/captured/")["Contents"]

# 3. One object that fails.
put("in/bad.csv", "bad,bad,bad\n")
try:
    by_name.transform(
        f"s3://{bucket}/{NAME}/in", content_type="text/csv", split_type="Line", logs=False
    )
    failure = "none"
except UnexpectedStatusException as error:
    failure = str(error)
attached = Transformer.attach(by_name.latest_transform_job.name)

print()  # the SDK left its row of dots open
print(
    json.dumps(
        {
            "digits": len(json.loads(digits)),
            "joined": [
                read(f"s3://{bucket}/{NAME}/out/{name}.out").split(",")[:2]
                for name in ("more/b.csv",)
            ],
            "captured": [entry["Key"].removeprefix(f"{NAME}/captured/")[:5] for entry in captured],
            "failure": failure,
            "attached": attached.model_name == NAME,
        }
    )
)
