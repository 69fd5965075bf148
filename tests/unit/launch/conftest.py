"""A project on disk, a place to launch it in, and a service that answers from memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagemaker_byoc.cli.commands.launch import ServiceModels
from sagemaker_byoc.host.aws_calls import RefusedError
from sagemaker_byoc.launch import endpoint, train
from sagemaker_byoc.launch.checks import check_plan
from sagemaker_byoc.launch.steps import Place
from sagemaker_byoc.launch.table import Problems

DIGEST = "sha256:" + "ab" * 32
IMAGE = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/digits@{DIGEST}"
PLACE = Place(
    region="eu-west-1",
    account="123456789012",
    image=IMAGE,
    digest=DIGEST,
    role="arn:aws:iam::123456789012:role/SageMaker",
    commit="0" * 40,
)
WHERE = "pyproject.toml: [tool.byoc.train]"


@pytest.fixture
def folder(tmp_path):
    for name in ("train", "test"):
        (tmp_path / "data" / name / "deep").mkdir(parents=True)
        (tmp_path / "data" / name / "rows.csv").write_text(f"{name}\n")
        (tmp_path / "data" / name / "deep" / "more.csv").write_text("more\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.npy").write_bytes(b"weights")
    return tmp_path


@pytest.fixture
def make_train(folder):
    def make(*, place=PLACE, new="", **keys):
        table = {"name": "digits", "instance-type": "ml.m5.large", **hyphened(keys)}
        return train.plan(train.read(WHERE, table, folder), place, new=new)

    return make


@pytest.fixture
def make_endpoint(folder):
    def make(*, place=PLACE, artifact="", **keys):
        table = {"name": "digits", "instance-type": "ml.m5.large", **hyphened(keys)}
        return endpoint.plan(endpoint.read(WHERE, table, folder), place, artifact=artifact)

    return make


def validate(plan, request=None, kind=train):
    """Compare a plan with AWS's model and the documented rules."""
    problems = Problems()
    shared = kind.read(WHERE, {"request": request or {}}, Path()).shared
    check_plan(plan, shared, problems, ServiceModels())
    problems.check(WHERE)
    return problems.warnings


def hyphened(keys):
    return {key.replace("_", "-"): value for key, value in keys.items()}


class Service:
    """Remembers each call; `answers` has what an operation answers, or the refusal it raises."""

    region = "eu-west-1"

    def __init__(self, **answers):
        self.answers = answers
        self.calls = []

    def call(self, call):
        operation, parameters = call.operation, call.parameters
        self.calls.append(operation)
        answer = self.answers.get(operation)
        if answer is None and operation.startswith(("Describe", "Head")):
            raise RefusedError("ValidationException", "Could not find it.", hint="none")
        if callable(answer):
            answer = answer(parameters)
        if isinstance(answer, Exception):
            raise answer
        return answer or {}
