"""What the service model demands, in AWS's words."""

from __future__ import annotations

import warnings

import pytest
from botocore.loaders import Loader

from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.operations import AwsError


def shape(operation, service="sagemaker"):
    return models.service_model(service).operation_model(operation).input_shape


def refusal(operation, values, service="sagemaker"):
    with pytest.raises(AwsError) as found:
        models.check(service, shape(operation, service), values)
    return found.value


def test_a_pattern_is_refused_as_aws_does():
    error = refusal("DescribeTrainingJob", {"TrainingJobName": "x_y"})
    assert (error.code, error.status) == ("ValidationException", 400)
    assert error.message == (
        "1 validation error detected: Value 'x_y' at 'trainingJobName' failed to satisfy "
        "constraint: Member must satisfy regular expression pattern: "
        "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
    )


def test_what_is_missing_is_null():
    error = refusal("CreateEndpoint", {"EndpointName": "a"})
    assert error.message == (
        "1 validation error detected: Value null at 'endpointConfigName' failed to satisfy "
        "constraint: Member must not be null"
    )


def test_all_that_is_wrong_is_said_at_once():
    error = refusal("CreateEndpoint", {"EndpointName": "-"})
    assert error.message.startswith("2 validation errors detected: ")
    assert "; Value null at" in error.message


def test_members_of_lists_are_numbered_from_one():
    variant = {"VariantName": "a", "ModelName": "m", "InitialInstanceCount": 0}
    error = refusal(
        "CreateEndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": [variant]}
    )
    assert (
        "Value '0' at 'productionVariants.1.member.initialInstanceCount' failed to satisfy "
        "constraint: Member must have value greater than or equal to 1" in error.message
    )


def test_a_list_has_a_length():
    error = refusal("CreateEndpointConfig", {"EndpointConfigName": "c", "ProductionVariants": []})
    assert "Value '[]' at 'productionVariants'" in error.message
    assert "Member must have length greater than or equal to 1" in error.message


def test_an_enum_names_its_values():
    error = refusal("ListTrainingJobs", {"SortOrder": "Up"})
    assert "Member must satisfy enum value set: [Ascending, Descending]" in error.message


def test_a_map_is_shown_whole_with_the_constraints_of_its_members():
    algorithm = {"TrainingInputMode": "File", "TrainingImage": "a"}
    error = refusal(
        "CreateTrainingJob",
        {"AlgorithmSpecification": algorithm, "HyperParameters": {"k": "v" * 3000}},
    )
    text = next(part for part in error.message.split("; ") if "'hyperParameters'" in part)
    assert (
        "Map value must satisfy constraint: [Member must have length less than or equal to" in text
    )
    assert "{k=vvv" in text


@pytest.mark.parametrize(
    ("key", "fits"), [("größe", True), ("a b", True), ("a\n", False), ("a!", False)]
)
def test_letters_of_every_alphabet_are_letters(key, fits):
    r"""Patterns with \p{L}, which Python's expressions do not know."""
    values = {
        "ResourceArn": "arn:aws:sagemaker:us-east-1:000000000000:a/b",
        "Tags": [{"Key": key, "Value": ""}],
    }
    if fits:
        models.check("sagemaker", shape("AddTags"), values)
    else:
        assert "tags.1.member.key" in refusal("AddTags", values).message


def test_each_service_has_its_code():
    assert refusal("CreateLogGroup", {}, "logs").code == "InvalidParameterException"
    assert refusal("CreateRepository", {}, "ecr").code == "InvalidParameterException"
    assert refusal("AssumeRole", {}, "sts").code == "ValidationError"


def test_a_sensitive_value_is_not_repeated():
    secret = "s" * 5000
    found = [
        member
        for name in ("iam",)
        for operation in models.service_model(name).operation_names
        if (input_shape := models.service_model(name).operation_model(operation).input_shape)
        for member in input_shape.members.values()
        if member.metadata.get("sensitive") and member.metadata.get("max", 10**9) < 5000
    ]
    assert found
    sentence = next(models._violations(found[0], secret, "x"))
    assert secret not in sentence


@pytest.mark.parametrize("service", ["sagemaker", "logs", "ecr", "sts", "iam"])
def test_every_pattern_of_the_models_compiles(service):
    """One that would not is one that is silently not checked."""
    document = Loader().load_service_model(service, "service-2")
    patterns = {shape["pattern"] for shape in document["shapes"].values() if "pattern" in shape}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        broken = {p for p in patterns if models.compile_pattern(p) is None}
    assert not broken
