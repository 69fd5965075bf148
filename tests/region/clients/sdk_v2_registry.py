"""A registry script as people wrote them for SDK 2: register, approve, deploy, predict.

Arguments: image for serving. Registers two versions of a model and a pipeline of three, and
deploys the newest approved version, the pipeline, and an endpoint of many models. Prints one JSON
object on its last line.
"""

import io
import json
import sys
import tarfile
import time

import boto3
import sagemaker
from botocore.exceptions import ClientError
from sagemaker.deserializers import StringDeserializer
from sagemaker.metadata_properties import MetadataProperties
from sagemaker.model import Model, ModelPackage
from sagemaker.model_metrics import MetricsSource, ModelMetrics
from sagemaker.multidatamodel import MultiDataModel
from sagemaker.pipeline import PipelineModel
from sagemaker.predictor import Predictor
from sagemaker.serializers import StringSerializer

IMAGE = sys.argv[1]
NAME = f"digits-v2-{time.time_ns()}"
PROGRAM = """
import os
def model_fn(model_dir): return open(os.path.join(model_dir, "answer")).read()
def input_fn(body, content_type): return body.decode() if isinstance(body, bytes) else body
def predict_fn(data, model):
    if data == "fail": raise ValueError("on purpose")
    return f"{model}({data})"
def output_fn(prediction, accept): return prediction, "text/plain"
"""

session = sagemaker.Session()
role = sagemaker.get_execution_role()
client = boto3.client("sagemaker")


def uploaded(answer):
    """Upload a model that answers with its name and what it is asked."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for name, text in {"answer": answer, "code/inference.py": PROGRAM}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    key = f"{NAME}/{answer}/model.tar.gz"
    session.boto_session.client("s3").put_object(
        Bucket=session.default_bucket(), Key=key, Body=data.getvalue()
    )
    return f"s3://{session.default_bucket()}/{key}"


def model(answer):
    return Model(
        image_uri=IMAGE,
        model_data=uploaded(answer),
        role=role,
        sagemaker_session=session,
        predictor_cls=Predictor,
    )


how = {
    "content_types": ["text/plain"],
    "response_types": ["text/plain"],
    "inference_instances": ["ml.m5.large"],
    "transform_instances": ["ml.m5.large"],
}
metrics = ModelMetrics(
    model_statistics=MetricsSource("application/json", f"s3://{session.default_bucket()}/m.json")
)
packages = [
    model(answer).register(
        **how,
        model_package_group_name=NAME,
        approval_status="PendingManualApproval",
        description=f"answers {answer}",
        model_metrics=metrics,
        metadata_properties=MetadataProperties(commit_id="abc", generated_by="a notebook"),
        customer_metadata_properties={"owner": "me"},
    )
    for answer in ("one", "two")
]
packages[0].update_approval_status("Approved", "good")
packages[1].update_approval_status("Rejected")
packages[1].update_customer_metadata({"checked": "yes"})
packages[1].remove_customer_metadata_properties(["owner"])
packages[1].add_inference_specification(name="small", image_uris=[IMAGE])
approved = session.get_most_recently_created_approved_model_package(NAME)
pipeline = PipelineModel(
    models=[model("a"), model("b"), model("c")], role=role, sagemaker_session=session
).register(**how, model_package_group_name=f"{NAME}-pipeline")

text = {"serializer": StringSerializer("text/plain"), "deserializer": StringDeserializer()}
predictors = []
for arn in (approved.model_package_arn, pipeline.model_package_arn):
    package = ModelPackage(
        role=role, model_package_arn=arn, sagemaker_session=session, predictor_cls=Predictor
    )
    # deploy() sleeps 30 s before a look
    predictors.append(
        package.deploy(initial_instance_count=1, instance_type="ml.m5.large", wait=False, **text)
    )
many = MultiDataModel(
    name=f"{NAME}-many",
    model_data_prefix=f"s3://{session.default_bucket()}/{NAME}/many/",
    image_uri=IMAGE,
    role=role,
    sagemaker_session=session,
    predictor_cls=Predictor,
)
chooser = many.deploy(initial_instance_count=1, instance_type="ml.m5.large", wait=False, **text)
for answer in ("one", "two"):
    many.add_model(uploaded(answer), f"{answer}.tar.gz")
session.wait_for_endpoint(chooser.endpoint_name, poll=1)
chosen = [chooser.predict("x", target_model=each) for each in sorted(many.list_models())]
chooser.delete_endpoint()
answers = []
for predictor in predictors:
    session.wait_for_endpoint(predictor.endpoint_name, poll=1)
    answers.append(predictor.predict("x"))
try:
    predictors[1].predict("fail")
    failure = ""
except ClientError as error:
    failure = str(error)
for predictor in predictors:
    predictor.delete_endpoint()

found = [client.describe_model_package(ModelPackageName=p.model_package_arn) for p in packages]
print()  # the SDK left its row of marks open
print(
    json.dumps(
        {
            "arns": [each["ModelPackageArn"] for each in found],
            "approved": approved.model_package_arn,
            "pipeline_status": client.describe_model_package(
                ModelPackageName=pipeline.model_package_arn
            )["ModelApprovalStatus"],
            "answers": answers,
            "chosen": chosen,
            "failure": failure,
            "metadata": [each["CustomerMetadataProperties"] for each in found],
            "commit": found[0]["MetadataProperties"]["CommitId"],
            "digests": [
                each["InferenceSpecification"]["Containers"][0]["ImageDigest"] for each in found
            ],
            "additional": found[1]["AdditionalInferenceSpecifications"][0]["Name"],
        }
    )
)
