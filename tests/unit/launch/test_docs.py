"""What the how-to pages show is taken as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.unit.launch.conftest import PLACE, validate

from sagemaker_byoc.launch import endpoint, train
from sagemaker_byoc.launch.kubernetes import serving, training
from sagemaker_byoc.launch.table import merged, parse_toml

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to"


@pytest.fixture
def tables(folder):
    def tables(page):
        found = {"tool": {"byoc": {"name": "digits", "train": {}, "endpoint": {}}}}
        for block in re.findall(r"```toml\n(.*?)```", (HOW_TO / page).read_text(), re.DOTALL):
            found = merged(found, parse_toml(block))
        byoc = found["tool"]["byoc"]
        name = {"name": byoc["name"]}
        return (
            train.read("train", name | byoc["train"], folder),
            endpoint.read("endpoint", name | byoc["endpoint"], folder),
        )

    return tables


def test_launch(tables):
    job, served = tables("launch.md")
    assert validate(train.plan(job, PLACE)) == []
    assert validate(endpoint.plan(served, PLACE, artifact="s3://bucket/model.tar.gz")) == []


def test_kubernetes(tables):
    job, served = tables("kubernetes.md")
    assert [each["kind"] for each in training.manifests(job)] == ["ConfigMap", "PyTorchJob"]
    assert len(serving.deployment(served)) == 2
    assert len(serving.inference_service(served)) == 1
