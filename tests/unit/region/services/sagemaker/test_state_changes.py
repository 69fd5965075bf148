"""Events of state changes have the shapes of AWS's developer guide."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.services.sagemaker.state_changes import (
    ENDPOINT,
    MODEL_PACKAGE,
    TRAINING_JOB,
    state_change,
)

TIME = datetime(2020, 3, 10, 9, 18, 9, 50_000, UTC)
ARN = "arn:aws:sagemaker:us-east-1:000000000000:training-job/kmeans-1"


def test_a_training_job() -> None:
    document = {
        "TrainingJobName": "kmeans-1",
        "TrainingJobArn": ARN,
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "HyperParameters": {"k": "3"},
        "FailureReason": None,
        "ResourceConfig": {"InstanceCount": 1, "VolumeSizeInGB": 20, "VolumeKmsKeyId": None},
        "CreationTime": TIME,
        "SecondaryStatusTransitions": [{"Status": "Starting", "StartTime": TIME}],
    }
    event = state_change(TRAINING_JOB, ARN, document, {"team": "a"})
    assert event.source == "aws.sagemaker"
    assert event.detail_type == "SageMaker Training Job State Change"
    assert event.resources == (ARN,)
    assert event.detail == {
        "TrainingJobName": "kmeans-1",
        "TrainingJobArn": ARN,
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "HyperParameters": {"k": "3"},
        "ResourceConfig": {"InstanceCount": 1, "VolumeSizeInGB": 20},
        "CreationTime": 1583831889050,
        "SecondaryStatusTransitions": [{"Status": "Starting", "StartTime": 1583831889050}],
        "Tags": {"team": "a"},
    }
    json.dumps(event.document(Account()))


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        ("InService", "IN_SERVICE"),
        ("Creating", "CREATING"),
        ("RollingBack", "ROLLING_BACK"),
        ("OutOfService", "OUT_OF_SERVICE"),
        ("UpdateRollbackFailed", "UPDATE_ROLLBACK_FAILED"),
    ],
)
def test_the_status_of_an_endpoint(status: str, sent: str) -> None:
    document = {"EndpointName": "e", "EndpointStatus": status}
    assert state_change(ENDPOINT, ARN, document, {}).detail["EndpointStatus"] == sent


def test_a_model_package_has_texts_for_times() -> None:
    document: dict[str, Any] = {"ModelPackageStatus": "Completed", "CreationTime": TIME}
    assert state_change(MODEL_PACKAGE, ARN, document, {}).detail == {
        "ModelPackageStatus": "Completed",
        "CreationTime": "2020-03-10T09:18:09Z",
        "Tags": {},
    }


def test_the_event_does_not_share_the_document() -> None:
    document: dict[str, Any] = {"Environment": {"a": "1"}}
    event = state_change(TRAINING_JOB, ARN, document, {})
    document["Environment"]["a"] = "2"
    assert event.detail["Environment"] == {"a": "1"}
