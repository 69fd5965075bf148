"""Search expressions on documents: operators, types, lists, entries, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sagemaker_byoc.region.services.sagemaker.search.expressions import (
    compile_expression,
    find_property,
    property_names,
    sort_text,
)
from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.operations import AwsError

JOB = {
    "TrainingJobName": "digits-1",
    "TrainingJobStatus": "Completed",
    "CreationTime": datetime(2026, 11, 30, 12, tzinfo=UTC),
    "BillableTimeInSeconds": 61,
    "EnableManagedSpotTraining": False,
    "HyperParameters": {"lr": "0.5", "a.b": "x", "optimizer": "adam"},
    "FinalMetricDataList": [{"MetricName": "val:acc", "Value": 0.9}],
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2},
    "InputDataConfig": [
        {
            "ChannelName": "train",
            "DataSource": {"S3DataSource": {"S3Uri": "s3://one/cat"}},
        },
        {
            "ChannelName": "test",
            "DataSource": {"S3DataSource": {"S3Uri": "s3://two/dog"}},
        },
    ],
    "Tags": [{"Key": "team", "Value": "red"}],
}
SHAPE = models.service_model("sagemaker").shape_for("TrainingJob")


def holds(expression, document=JOB):
    return compile_expression(SHAPE, expression)(document)


def condition(name, operator=None, value=None):
    found = {"Name": name, "Operator": operator, "Value": value}
    return {key: each for key, each in found.items() if each is not None}


def refused(expression):
    with pytest.raises(AwsError) as caught:
        compile_expression(SHAPE, expression)
    assert caught.value.code == "ValidationException"
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "operator", "value", "expected"),
    [
        ("TrainingJobName", None, "digits-1", True),  # Equals is the default
        ("TrainingJobName", "Equals", "digits", False),
        ("TrainingJobName", "NotEquals", "digits", True),
        ("TrainingJobName", "Contains", "gits", True),
        ("TrainingJobName", "In", "a,digits-1", True),
        ("TrainingJobName", "In", "a, digits-1", True),
        ("TrainingJobName", "In", "a,b", False),
        ("FailureReason", "Exists", None, False),
        ("FailureReason", "NotExists", None, True),
        ("FailureReason", "NotEquals", "x", True),
        ("Tags", "Exists", None, True),
        ("BillableTimeInSeconds", "GreaterThan", "60.5", True),
        ("BillableTimeInSeconds", "Equals", "61.0", True),
        ("BillableTimeInSeconds", "LessThan", "61", False),
        ("BillableTimeInSeconds", "LessThanOrEqualTo", "61", True),
        ("ResourceConfig.InstanceCount", "GreaterThanOrEqualTo", "2", True),
        ("CreationTime", "GreaterThan", "2026-11-30T11:59:59", True),
        ("CreationTime", "LessThan", "2026-11-30T12:00:00Z", False),
        ("CreationTime", "Equals", "2026-11-30T13:00:00+01:00", True),
        ("EnableManagedSpotTraining", "Equals", "false", True),
        ("EnableManagedSpotTraining", "Equals", "True", False),
        ("HyperParameters.lr", "LessThan", "0.6", True),
        ("HyperParameters.lr", "Equals", "0.5", True),
        ("HyperParameters.a.b", "Equals", "x", True),
        ("HyperParameters.optimizer", "GreaterThan", "1", False),  # which is not a number
        ("HyperParameters.none", "Exists", None, False),
        ("Metrics.val:acc", "GreaterThan", "0.8", True),
        ("Metrics.val:acc", "Equals", "0.9", True),
        ("Metrics.none", "NotExists", None, True),
        ("Tags.team", "Equals", "red", True),
        ("Tags.other", "NotExists", None, True),
        ("InputDataConfig.ChannelName", "Equals", "test", True),
        ("InputDataConfig.ChannelName", "NotEquals", "test", False),
        ("InputDataConfig.DataSource.S3DataSource.S3Uri", "Contains", "dog", True),
    ],
)
def test_operators(name, operator, value, expected):
    assert holds({"Filters": [condition(name, operator, value)]}) is expected


def test_the_conditions_of_an_expression_are_combined():
    yes = condition("TrainingJobName", "Equals", "digits-1")
    no = condition("TrainingJobName", "Equals", "other")
    assert holds({})
    assert not holds({"Filters": [yes, no]})
    assert not holds({"Filters": [yes, no], "Operator": "And"})
    assert holds({"Filters": [yes, no], "Operator": "Or"})
    assert not holds({"Filters": [yes], "SubExpressions": [{"Filters": [no]}]})
    either = {"Filters": [yes, no], "Operator": "Or"}
    assert holds({"SubExpressions": [either, {"SubExpressions": [either]}]})
    assert not holds({"SubExpressions": [{"Filters": [no]}, {"Filters": [no]}], "Operator": "Or"})


def nested(*filters):
    return {"NestedFilters": [{"NestedPropertyName": "InputDataConfig", "Filters": [*filters]}]}


def test_one_item_satisfies_all_filters_of_a_nested_filter():
    uri = "InputDataConfig.DataSource.S3DataSource.S3Uri"
    train = condition("InputDataConfig.ChannelName", "Equals", "train")
    assert holds(nested(train, condition(uri, "Contains", "cat")))
    assert not holds(nested(train, condition(uri, "Contains", "dog")))


def test_what_aws_refuses():
    name = condition("TrainingJobName", "Contains", "a")
    assert refused({"Filters": [condition("TrialName", "Equals", "a")]}) == (
        "Unknown property name: TrialName"
    )
    assert refused({"Filters": [name], "SubExpressions": [{"Filters": [name]}]}) == (
        "'CONTAINS' operator usage limit of 1 exceeded."
    )
    tag = condition("Tags.a", "Contains", "a")
    assert not holds({"Filters": [tag, tag]})
    wide = {"Filters": [condition("TrainingJobName", "Exists")] * 20}
    assert holds({"SubExpressions": [wide, wide]})
    assert "at most 50" in refused({"SubExpressions": [wide, wide, wide]})


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (condition("TrainingJobName", "GreaterThan", "a"), "not supported for text properties"),
        (condition("CreationTime", "Contains", "a"), "only supported for text properties"),
        (condition("EnableManagedSpotTraining", "LessThan", "true"), "for Boolean properties"),
        (condition("EnableManagedSpotTraining", "Equals", "yes"), "yes of the filter on Enable"),
        (condition("BillableTimeInSeconds", "Equals", "x"), "Value x of the filter on Billable"),
        (condition("HyperParameters.lr", "LessThan", "x"), "is not a number"),
        (condition("CreationTime", "LessThan", "now"), "is not an ISO 8601 time"),
        (condition("TrainingJobName", "Equals"), "needs a Value"),
        (condition("ResourceConfig", "Equals", "a"), "has members"),
        (condition("ResourceConfig.None", "Equals", "a"), "Unknown property name: Resource"),
        (condition("TrainingJobName.x", "Equals", "a"), "Unknown property name: TrainingJobName.x"),
        (condition("Tags", "Equals", "a"), "has members"),
        (condition("Metrics", "Exists"), "Unknown property name: Metrics"),
        (condition(".", "Exists"), "Unknown property name: ."),
    ],
)
def test_conditions_that_can_not_be(found, words):
    assert words in refused({"Filters": [found]})


@pytest.mark.parametrize(
    ("top", "name", "words"),
    [
        ("InputDataConfig", "TrainingJobName", "is not about NestedPropertyName InputDataConfig"),
        ("ResourceConfig", "ResourceConfig.InstanceType", "is not a list"),
        ("None", "None.A", "Unknown property name: None"),
        ("HyperParameters.a", "HyperParameters.a.b", "is not a list"),
        ("Tags.a", "Tags.a.b", "is not a list"),
        ("Metrics.a", "Metrics.a.b", "is not a list"),
        ("InputDataConfig", "InputDataConfig.None", "Unknown property name: None"),
    ],
)
def test_nested_filters_that_can_not_be(top, name, words):
    filters = [condition(name, "Exists")]
    assert words in refused({"NestedFilters": [{"NestedPropertyName": top, "Filters": filters}]})


def test_order_of_values():
    seconds = find_property(SHAPE, "Metrics.m")
    values = [float("-inf"), -1e9, -2.5, -2.0, -0.0, 0.0, 1e-9, 3, 20.0, 1e300]
    texts = [
        sort_text(seconds, {"FinalMetricDataList": [{"MetricName": "m", "Value": value}]})
        for value in values
    ]
    assert texts == sorted(texts)
    assert sort_text(seconds, {}) == ""
    time = find_property(SHAPE, "CreationTime")
    assert sort_text(time, {"CreationTime": datetime(2026, 1, 1, tzinfo=UTC)}) < sort_text(
        time, {"CreationTime": datetime(2026, 1, 1, microsecond=1000, tzinfo=UTC)}
    )


def test_names_of_properties():
    names = {*property_names(SHAPE)}
    assert {
        "TrainingJobName",
        "InputDataConfig.DataSource.S3DataSource.S3Uri",
        "HyperParameters.",
        "Metrics.",
        "Tags.",
    } <= names
    for name in names:
        find_property(SHAPE, name + "x" if name.endswith(".") else name)
