"""Calls of AWS as data, held against AWS's own service models."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from botocore import xform_name
from botocore.session import get_session
from botocore.validate import ParamValidator

from sagemaker_byoc.cloud import ecr
from sagemaker_byoc.cloud.session import IDENTITY
from sagemaker_byoc.host.aws_calls import Call

WANTED = ecr.WantedRepository(
    name="team/model",
    account="123456789012",
    mutability=ecr.IMMUTABLE,
    scan_on_push=True,
    untagged_kept=5,
)
CALLS = [
    IDENTITY,
    ecr.LOGIN,
    ecr.describe(WANTED),
    ecr.create(WANTED),
    ecr.create(replace(WANTED, mutability=None, scan_on_push=None)),
    ecr.set_mutability(WANTED),
    ecr.set_scanning(WANTED),
    ecr.get_lifecycle(WANTED),
    ecr.set_lifecycle(WANTED),
    ecr.describe_image(WANTED, "sha256:" + 64 * "0"),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.operation)
def test_aws_has_such_a_call(call):
    model = get_session().get_service_model(call.service).operation_model(call.operation)
    assert xform_name(call.operation) == call.method
    if model.input_shape is None:
        assert not call.parameters
        return
    report = ParamValidator().validate(dict(call.parameters), model.input_shape)
    assert not report.has_errors(), report.generate_report()


def test_a_call_as_a_command():
    words = shlex.split(ecr.create(WANTED).command("eu-west-1"))
    assert words == [
        *("aws", "ecr", "create-repository", "--region", "eu-west-1"),
        *("--registry-id", "123456789012", "--repository-name", "team/model"),
        *("--image-tag-mutability", "IMMUTABLE"),
        *("--image-scanning-configuration", '{"scanOnPush":true}'),
    ]
    assert Call("sts", "GetCallerIdentity").command("x").split()[2] == "get-caller-identity"


def test_only_untagged_images_are_ever_deleted():
    text = ecr.set_lifecycle(WANTED).parameters["lifecyclePolicyText"]
    assert '"tagStatus": "untagged"' in text
    assert '"countNumber": 5' in text
