"""The model registry through botocore's clients, with checked answers."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.slow

SPECIFICATION = {
    "Containers": [{"Image": "byoc-serve"}],
    "SupportedContentTypes": ["text/csv"],
    "SupportedResponseMIMETypes": ["text/csv"],
}
INSTANCES = {
    "SupportedTransformInstanceTypes": ["ml.m5.large"],
    "SupportedRealtimeInferenceInstanceTypes": ["ml.m5.large"],
}
ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
POLICY = json.dumps({"Version": "2012-10-17", "Statement": []})


def code(call, **asked):
    with pytest.raises(ClientError) as caught:
        call(**asked)
    return caught.value.response["Error"]["Code"]


def test_every_operation(region):
    """Each answer has the shape that AWS's model gives."""
    client = region.client("sagemaker")
    tags = [{"Key": "team", "Value": "red"}]
    group = {"ModelPackageGroupName": "digits"}
    client.create_model_package_group(**group, ModelPackageGroupDescription="d", Tags=tags)
    described = client.describe_model_package_group(**group)
    assert described["ModelPackageGroupStatus"] == "Completed"
    caller = region.client("sts").get_caller_identity()
    identity = {"Arn": caller["Arn"], "PrincipalId": caller["UserId"]}
    assert described["CreatedBy"]["IamIdentity"] == identity
    arns = [
        client.create_model_package(
            **group,
            InferenceSpecification=SPECIFICATION,
            CustomerMetadataProperties={"owner": "me"},
            ModelMetrics={"ModelQuality": {"Statistics": {"ContentType": "a", "S3Uri": "s3://b"}}},
        )["ModelPackageArn"]
        for _ in range(3)
    ]
    assert (
        code(
            client.create_model,
            ModelName="m",
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"ModelPackageName": arns[0]},
        )
        == "ValidationException"
    )
    client.update_model_package(
        ModelPackageArn=arns[0],
        ModelApprovalStatus="Approved",
        ApprovalDescription="good",
        CustomerMetadataProperties={"checked": "yes"},
        CustomerMetadataPropertiesToRemove=["owner"],
        ModelCard={"ModelCardContent": "{}", "ModelCardStatus": "Draft"},
    )
    found = client.describe_model_package(ModelPackageName=arns[0], IncludedData="MetadataOnly")
    assert found["CustomerMetadataProperties"] == {"checked": "yes"}
    assert found["ModelPackageStatusDetails"]["ValidationStatuses"] == []
    client.create_model(
        ModelName="digits", ExecutionRoleArn=ROLE, Containers=[{"ModelPackageName": arns[0]}]
    )
    (container,) = client.describe_model(ModelName="digits")["Containers"]
    assert container["ModelPackageName"] == arns[0]
    own = client.create_model_package(
        ModelPackageName="digits", InferenceSpecification={**SPECIFICATION, **INSTANCES}
    )["ModelPackageArn"]
    assert client.describe_model_package(ModelPackageName="digits")["ModelPackageArn"] == own
    pages = client.get_paginator("list_model_packages").paginate(
        ModelPackageType="Both", PaginationConfig={"PageSize": 3}
    )
    listed = [each["ModelPackageArn"] for page in pages for each in page["ModelPackageSummaryList"]]
    assert listed == [*arns, own]
    batch = client.batch_describe_model_package(ModelPackageArnList=[arns[0], f"{own}/9"])
    assert [*batch["ModelPackageSummaries"]] == [arns[0]]
    assert [*batch["BatchDescribeModelPackageErrorMap"]] == [f"{own}/9"]
    approved = {"Name": "ModelApprovalStatus", "Operator": "Equals", "Value": "Approved"}
    pages = client.get_paginator("search").paginate(
        Resource="ModelPackage",
        SearchExpression={"Filters": [approved]},
        PaginationConfig={"PageSize": 1},
    )
    assert [
        each["ModelPackage"]["ModelPackageArn"] for page in pages for each in page["Results"]
    ] == [arns[0]]
    for resource in ("Endpoint", "Model", "ModelPackageGroup", "TrainingJob"):
        assert "Results" in client.search(Resource=resource)
    assert (
        client.search(Resource="ModelPackageGroup")["Results"][0]["ModelPackageGroup"]["Tags"]
        == tags
    )
    assert client.get_search_suggestions(Resource="TrainingJob")["PropertyNameSuggestions"]
    client.put_model_package_group_policy(**group, ResourcePolicy=POLICY)
    assert client.get_model_package_group_policy(**group)["ResourcePolicy"] == POLICY
    client.delete_model_package_group_policy(**group)
    assert code(client.delete_model_package_group, **group) == "ConflictException"
    for arn in [*arns, own]:
        client.delete_model_package(ModelPackageName=arn)
    client.delete_model_package_group(**group)
    groups = client.list_model_package_groups()["ModelPackageGroupSummaryList"]
    assert groups == []
