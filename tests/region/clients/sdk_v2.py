"""A launch script as people wrote them for SDK 2: fit, deploy, predict. Nothing in it is local.

Arguments: image for training, image for serving, folder with train/ and test/, number of hosts.
Prints one JSON object on its last line.
"""

import json
import sys

import boto3
import sagemaker
from sagemaker.analytics import TrainingJobAnalytics
from sagemaker.deserializers import JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.serializers import JSONSerializer

TRAIN_IMAGE, SERVE_IMAGE, DATA, HOSTS = *sys.argv[1:4], int(sys.argv[4])

session = sagemaker.Session()
estimator = Estimator(
    image_uri=TRAIN_IMAGE,
    role=sagemaker.get_execution_role(),
    instance_count=HOSTS,
    instance_type="ml.m5.large",
    hyperparameters={"epochs": 3},
    metric_definitions=[{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
    max_run=300,
)
channels = {
    name: session.upload_data(f"{DATA}/{name}", key_prefix=f"digits/{name}")
    for name in ("train", "test")
}
estimator.fit(channels, logs="All")

attached = Estimator.attach(estimator.latest_training_job.name)  # as another notebook would
predictor = attached.deploy(
    initial_instance_count=1,
    instance_type="ml.m5.large",
    image_uri=SERVE_IMAGE,
    serializer=JSONSerializer(),
    deserializer=JSONDeserializer(),
    wait=False,
)
session.wait_for_endpoint(predictor.endpoint_name, poll=1)  # deploy() sleeps 30 s before a look
with open(f"{DATA}/test/digits.csv") as rows:
    label, *pixels = next(rows).strip().split(",")
answer = predictor.predict([[float(value) for value in pixels]])
predictor.delete_model()
predictor.delete_endpoint()

frames = {
    period: TrainingJobAnalytics(estimator.latest_training_job.name, period=period).dataframe()
    for period in (1, 60)
}
job = boto3.client("sagemaker").describe_training_job(
    TrainingJobName=estimator.latest_training_job.name
)
print()  # the SDK left its row of dots open
print(
    json.dumps(
        {
            "status": job["TrainingJobStatus"],
            "metrics": {
                entry["MetricName"]: entry["Value"] for entry in job["FinalMetricDataList"]
            },
            "points": {period: len(frame) for period, frame in frames.items()},
            "average": float(frames[60]["value"].mean()),
            "model": estimator.model_data,
            "label": int(float(label)),
            "answer": answer,
        }
    )
)
