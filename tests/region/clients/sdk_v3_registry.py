"""A registry script for SDK 3: ModelBuilder.register, then core's resources, and an endpoint.

Arguments: image for serving. Prints one JSON object on its last line.
"""

import io
import json
import sys
import tarfile
import time

from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.core.resources import (
    Endpoint,
    EndpointConfig,
    Model,
    ModelPackage,
    ModelPackageGroup,
)
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant
from sagemaker.serve import ModelBuilder

IMAGE = sys.argv[1]
NAME = f"digits-v3-{time.time_ns()}"
ROLE = get_execution_role()
PROGRAM = """
import os
def model_fn(model_dir): return open(os.path.join(model_dir, "answer")).read()
def input_fn(body, content_type): return body.decode() if isinstance(body, bytes) else body
def predict_fn(data, model): return f"{model}({data})"
def output_fn(prediction, accept): return prediction, "text/plain"
"""

session = Session()
data = io.BytesIO()
with tarfile.open(fileobj=data, mode="w:gz") as tar:
    for name, text in {"answer": "three", "code/inference.py": PROGRAM}.items():
        entry = tarfile.TarInfo(name)
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))
bucket = session.default_bucket()
session.boto_session.client("s3").put_object(
    Bucket=bucket, Key=f"{NAME}/model.tar.gz", Body=data.getvalue()
)

group = ModelPackageGroup.create(
    model_package_group_name=NAME, model_package_group_description="of SDK 3"
)
builder = ModelBuilder(
    image_uri=IMAGE,
    s3_model_data_url=f"s3://{bucket}/{NAME}/model.tar.gz",
    role_arn=ROLE,
    sagemaker_session=session,
)
arns = [
    builder.register(
        model_package_group_name=NAME,
        content_types=["text/plain"],
        response_types=["text/plain"],
        inference_instances=["ml.m5.large"],
        approval_status="PendingManualApproval",
        description=f"number {number}",
    )
    for number in (1, 2)
]
package = ModelPackage.get(arns[0])
before = package.model_approval_status
package.update(model_approval_status="Approved", approval_description="good")
group.refresh()

Model.create(
    model_name=NAME,
    containers=[ContainerDefinition(model_package_name=arns[0])],
    execution_role_arn=ROLE,
)
EndpointConfig.create(
    endpoint_config_name=NAME,
    production_variants=[
        ProductionVariant(
            variant_name="AllTraffic",
            model_name=NAME,
            initial_instance_count=1,
            instance_type="ml.m5.large",
        )
    ],
)
endpoint = Endpoint.create(endpoint_name=NAME, endpoint_config_name=NAME)
endpoint.wait_for_status("InService", poll=1, timeout=240)
result = endpoint.invoke(body="x", content_type="text/plain", accept="text/plain")
answer = result.body.read().decode()
endpoint.delete()
print(
    json.dumps(
        {
            "arns": arns,
            "status": [before, package.model_approval_status],
            "image": package.inference_specification.containers[0].image,
            "versions": [
                each.model_package_version
                for each in ModelPackage.get_all(
                    model_package_group_name=NAME, sort_order="Ascending"
                )
            ],
            "group": group.model_package_group_description,
            "answer": answer,
        }
    )
)
