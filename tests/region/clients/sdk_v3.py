"""A launch script for SDK 3: ModelTrainer, then model, endpoint and invoke. Nothing in it is local.

Arguments: image for training, image for serving, folder with train/ and test/, and a folder of
source code, or "-" for the program that the image holds. Prints one JSON object on its last line.
"""

import json
import logging
import sys
import time

from sagemaker.core.helper.session_helper import get_execution_role
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant
from sagemaker.core.training.configs import Compute, InputData, SourceCode
from sagemaker.train import ModelTrainer

TRAIN_IMAGE, SERVE_IMAGE, DATA, SOURCE = sys.argv[1:5]
ROLE = get_execution_role()
logging.basicConfig(level=logging.INFO)  # SDK 3 logs what a job prints, and sets up no handler

trainer = ModelTrainer(
    training_image=TRAIN_IMAGE,
    role=ROLE,
    compute=Compute(instance_type="ml.m5.large", instance_count=1),
    hyperparameters={"epochs": 2},
    source_code=None if SOURCE == "-" else SourceCode(source_dir=SOURCE, entry_script="train.py"),
    base_job_name="digits-v3",
)
trainer.train(
    input_data_config=[
        InputData(channel_name=name, data_source=f"{DATA}/{name}") for name in ("train", "test")
    ],
    wait=True,
    logs=True,
)
job = trainer._latest_training_job
job.refresh()

name = f"digits-v3-{time.time_ns()}"
Model.create(
    model_name=name,
    primary_container=ContainerDefinition(
        image=SERVE_IMAGE, model_data_url=job.model_artifacts.s3_model_artifacts
    ),
    execution_role_arn=ROLE,
)
EndpointConfig.create(
    endpoint_config_name=name,
    production_variants=[
        ProductionVariant(
            variant_name="AllTraffic",
            model_name=name,
            initial_instance_count=1,
            instance_type="ml.m5.large",
        )
    ],
)
endpoint = Endpoint.create(endpoint_name=name, endpoint_config_name=name)
endpoint.wait_for_status("InService", poll=1, timeout=240)
with open(f"{DATA}/test/digits.csv") as rows:
    label, *pixels = next(rows).strip().split(",")
result = endpoint.invoke(
    body=json.dumps([[float(value) for value in pixels]]),
    content_type="application/json",
    accept="application/json",
)
answer = json.loads(result.body.read())
endpoint.delete()
print(
    json.dumps(
        {
            "status": job.training_job_status,
            "model": job.model_artifacts.s3_model_artifacts,
            "label": int(float(label)),
            "answer": answer,
        }
    )
)
