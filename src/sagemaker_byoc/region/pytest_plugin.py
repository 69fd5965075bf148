"""A fixture for the tests of a project: `pytest_plugins = ["sagemaker_byoc.region.pytest_plugin"]`.

`sagemaker_region` is a new region for each test, on the process engine. The environment points at
it while the test runs, so that the code under test finds it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sagemaker_byoc.region import clients
from sagemaker_byoc.region.region import Region


@pytest.fixture
def sagemaker_region(monkeypatch: pytest.MonkeyPatch) -> Iterator[Region]:
    with Region() as region:
        for name in clients.unset(os.environ):
            monkeypatch.delenv(name, raising=False)
        for name, value in region.environ.items():
            monkeypatch.setenv(name, value)
        yield region
