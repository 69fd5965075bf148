"""What is made, described, listed, tagged and deleted: the same requests to the region and to moto.

moto runs nothing, so what a run alone decides (times, final states, metrics) is left out. Where the
two differ, DIFFERENCES says how, and who is nearer to AWS.
"""

from __future__ import annotations

import json
import re

import pytest
from botocore.exceptions import ClientError
from tests.region import oracle

from sagemaker_byoc.region.clients import make_client
from sagemaker_byoc.region.core.account import Keys

KEYS = Keys("any", "any")

pytestmark = [pytest.mark.slow, oracle.needed]

ACCOUNTS = "000000000000", "123456789012"
ACCOUNT = re.compile(rf"\b({'|'.join(ACCOUNTS)})\b")
IMAGE = "byoc-serve"  # which the process engine has always
ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
TAGS = [{"Key": "team", "Value": "a"}, {"Key": "cost", "Value": "b"}]
KMS = {"encryptionType": "KMS", "kmsKey": "arn:aws:kms:us-east-1:000000000000:key/k"}
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "ecr:BatchGetImage"}],
    }
)
RULE = {
    "rulePriority": 1,
    "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1},
    "action": {"type": "expire"},
}
LIFECYCLE = json.dumps({"rules": [RULE]})
MODEL_ARN = "arn:aws:sagemaker:us-east-1:{account}:model/m-1"
VERSION_ARN = "arn:aws:sagemaker:us-east-1:{account}:model-package/g-1/1"
GROUP = {"ModelPackageGroupName": "g-1"}
SPECIFICATION = {
    "Containers": [{"Image": IMAGE}],
    "SupportedContentTypes": ["text/csv"],
    "SupportedResponseMIMETypes": ["text/csv"],
}


def model(name, **more):
    container = {"Image": IMAGE, "Environment": {"A": "1"}}
    return {"ModelName": name, "PrimaryContainer": container, "ExecutionRoleArn": ROLE, **more}


def variant(name="a", model_name="m-1", weight=1.0):
    return {
        "VariantName": name,
        "ModelName": model_name,
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
        "InitialVariantWeight": weight,
    }


REQUESTS = {
    "sagemaker": [
        ("list_models", {}),
        ("create_model", model("m-1", Tags=TAGS)),
        ("create_model", model("m-2")),
        ("create_model", model("m-1")),
        ("describe_model", {"ModelName": "m-1"}),
        ("describe_model", {"ModelName": "nope"}),
        ("list_models", {"SortBy": "Name", "SortOrder": "Ascending"}),
        ("list_models", {"NameContains": "2"}),
        ("list_tags", {"ResourceArn": MODEL_ARN}),
        ("add_tags", {"ResourceArn": MODEL_ARN, "Tags": [{"Key": "team", "Value": "c"}]}),
        ("delete_tags", {"ResourceArn": MODEL_ARN, "TagKeys": ["cost"]}),
        ("list_tags", {"ResourceArn": MODEL_ARN}),
        (
            "create_endpoint_config",
            {"EndpointConfigName": "c-1", "ProductionVariants": [variant()]},
        ),
        (
            "create_endpoint_config",
            {
                "EndpointConfigName": "c-2",
                "ProductionVariants": [variant(), variant("b", "m-2", 3.0)],
            },
        ),
        (
            "create_endpoint_config",
            {"EndpointConfigName": "c-1", "ProductionVariants": [variant()]},
        ),
        (
            "create_endpoint_config",
            {"EndpointConfigName": "c-3", "ProductionVariants": [variant("a", "nope")]},
        ),
        ("describe_endpoint_config", {"EndpointConfigName": "c-2"}),
        ("describe_endpoint_config", {"EndpointConfigName": "nope"}),
        ("list_endpoint_configs", {"SortBy": "Name", "SortOrder": "Ascending"}),
        ("create_endpoint", {"EndpointName": "e-0", "EndpointConfigName": "nope"}),
        ("describe_endpoint", {"EndpointName": "nope"}),
        ("delete_endpoint", {"EndpointName": "nope"}),
        ("list_endpoints", {}),
        ("delete_endpoint_config", {"EndpointConfigName": "c-1"}),
        ("delete_endpoint_config", {"EndpointConfigName": "c-1"}),
        ("delete_model", {"ModelName": "m-2"}),
        ("delete_model", {"ModelName": "m-2"}),
        ("describe_training_job", {"TrainingJobName": "nope"}),
        ("list_training_jobs", {}),
        ("list_models", {}),
    ],
    "registry": [
        ("list_model_package_groups", {}),
        ("create_model_package_group", {**GROUP, "ModelPackageGroupDescription": "d"}),
        ("describe_model_package_group", GROUP),
        ("describe_model_package_group", {"ModelPackageGroupName": "nope"}),
        ("list_model_package_groups", {"NameContains": "g"}),
        ("create_model_package", {}),
        ("create_model_package", {**GROUP, "ModelPackageName": "p"}),
        ("create_model_package", {"ModelPackageGroupName": "nope"}),
        ("create_model_package", {**GROUP, "InferenceSpecification": SPECIFICATION}),
        ("create_model_package", {**GROUP, "InferenceSpecification": SPECIFICATION}),
        ("describe_model_package", {"ModelPackageName": VERSION_ARN}),
        ("describe_model_package", {"ModelPackageName": "nope"}),
        ("list_model_packages", {}),
        ("list_model_packages", {**GROUP, "ModelPackageType": "Versioned"}),
        (
            "update_model_package",
            {"ModelPackageArn": VERSION_ARN, "ModelApprovalStatus": "Approved"},
        ),
        ("describe_model_package", {"ModelPackageName": VERSION_ARN}),
        ("search", {"Resource": "ModelPackageGroup"}),
    ],
    "ecr": [
        ("describe_repositories", {}),
        ("create_repository", {"repositoryName": "team/r-1"}),
        ("create_repository", {"repositoryName": "team/r-1"}),
        ("create_repository", {"repositoryName": "Not_Legal!"}),
        (
            "create_repository",
            {"repositoryName": "r-2", "imageTagMutability": "IMMUTABLE"},
        ),
        ("describe_repositories", {"repositoryNames": ["r-2"]}),
        ("describe_repositories", {"repositoryNames": ["nope"]}),
        ("describe_images", {"repositoryName": "nope"}),
        ("batch_get_image", {"repositoryName": "r-2", "imageIds": [{"imageTag": "1"}]}),
        ("create_repository", {"repositoryName": "kms", "encryptionConfiguration": KMS}),
        ("describe_repositories", {"repositoryNames": ["kms"]}),
        ("set_repository_policy", {"repositoryName": "kms", "policyText": "{"}),
        ("set_repository_policy", {"repositoryName": "kms", "policyText": '{"Statement": [{}]}'}),
        ("set_repository_policy", {"repositoryName": "kms", "policyText": POLICY}),
        ("put_lifecycle_policy", {"repositoryName": "kms", "lifecyclePolicyText": LIFECYCLE}),
        ("get_lifecycle_policy", {"repositoryName": "kms"}),
        ("delete_repository", {"repositoryName": "r-2"}),
        ("delete_repository", {"repositoryName": "r-2"}),
    ],
    "logs": [
        ("create_log_group", {"logGroupName": "/g"}),
        ("create_log_group", {"logGroupName": "/g"}),
        ("create_log_stream", {"logGroupName": "/g", "logStreamName": "s"}),
        ("create_log_stream", {"logGroupName": "/g", "logStreamName": "s"}),
        ("create_log_stream", {"logGroupName": "/nope", "logStreamName": "s"}),
        ("describe_log_streams", {"logGroupName": "/g"}),
        ("describe_log_streams", {"logGroupName": "/nope"}),
        ("get_log_events", {"logGroupName": "/g", "logStreamName": "nope"}),
        ("describe_log_groups", {"logGroupNamePrefix": "/g"}),
        ("delete_log_group", {"logGroupName": "/g"}),
        ("delete_log_group", {"logGroupName": "/g"}),
    ],
    "sts": [("get_caller_identity", {})],
}

SERVICES = {"registry": "sagemaker"}
"""Services of the groups of requests that have another name."""

DIFFERENCES = {
    "create_model m-1": (["ModelArn", "error", "status"], "the second: moto replaces the first"),
    "describe_model m-1": (
        ["Containers", "PrimaryContainer", "VpcConfig"],
        "moto gives what nobody set, and lacks the container's Mode, which AWS always gives",
    ),
    "list_models 2": (["Models"], "moto does not look at NameContains"),
    "list_tags": (["Tags"], "moto forgets the tags that a model is made with"),
    "add_tags": (["Tags"], "as above"),
    "create_endpoint_config c-1": (
        ["EndpointConfigArn", "error", "status"],
        "the second: moto replaces the first",
    ),
    "describe_endpoint_config c-2": (
        ["DataCaptureConfig", "EnableNetworkIsolation"],
        "moto gives what nobody set, and lacks EnableNetworkIsolation, which AWS always gives",
    ),
    "describe_model_package_group g-1": (["CreatedBy"], "AWS always gives it, and moto does not"),
    f"describe_model_package {VERSION_ARN}": (
        ["CreatedBy", "InferenceSpecification", "LastModifiedBy", "ModelPackageStatusDetails"],
        "moto gives no digest, a user of Studio, and the status of validations that nobody asked",
    ),
    "list_model_packages g-1": (
        ["ModelPackageSummaryList"],
        "moto lists the oldest first, and AWS's templates take the first for the newest",
    ),
    "search": (["Results", "TotalHits"], "moto counts no hits and names no author"),
    "describe_log_groups": (["logGroups"], "moto knows no class of a group"),
    "get_caller_identity": (["Arn"], "the role that the region gives, or moto's user"),
}
"""Fields that differ, and why."""

_PASSING = {
    *("ResponseMetadata", "CreationTime", "LastModifiedTime", "createdAt", "creationTime"),
    *("registryId", "UserId", "nextToken", "NextToken", "repositoryUri"),
    "lastEvaluatedAt",
}


@pytest.fixture(scope="module")
def moto():
    with oracle.running() as url:
        yield url


@pytest.mark.parametrize("service", REQUESTS)
def test_answers_agree_with_moto(region, moto, service):
    name = SERVICES.get(service, service)
    clients = region.client(name), make_client(name, moto, KEYS, region="us-east-1")
    found = {}
    details = []
    for operation, parameters in REQUESTS[service]:
        mine, other = (
            ask(client, account, operation, parameters)
            for client, account in zip(clients, ACCOUNTS, strict=True)
        )
        fields = sorted(key for key in {*mine, *other} if mine.get(key) != other.get(key))
        if fields:
            label = f"{operation} {' '.join(name_in(parameters))}".strip()
            found[label] = fields
            details += [(label, key, mine.get(key), other.get(key)) for key in fields]
    expected = {
        label: fields
        for label, (fields, _) in DIFFERENCES.items()
        if label.split()[0] in {operation for operation, _ in REQUESTS[service]}
    }
    assert found == expected, details


def ask(client, account, operation, parameters):
    try:
        answer = getattr(client, operation)(**filled(parameters, account))
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return {"error": error.response["Error"]["Code"], "status": status}
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    return {"status": status, **lasting(answer)}


def filled(value, account):
    if isinstance(value, dict):
        return {key: filled(item, account) for key, item in value.items()}
    return value.format(account=account) if value in (MODEL_ARN, VERSION_ARN) else value


def lasting(value):
    """Without what is another each time."""
    if isinstance(value, dict):
        return {k: lasting(v) for k, v in value.items() if k not in _PASSING}
    if isinstance(value, list):
        return [lasting(item) for item in value]
    return ACCOUNT.sub("ACCOUNT", value) if isinstance(value, str) else value


def name_in(parameters):
    return [v for key, v in parameters.items() if key.endswith(("Name", "NameContains"))]
