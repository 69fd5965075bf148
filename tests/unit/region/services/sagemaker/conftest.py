"""The process engine, for kinds of resources that run containers."""

from __future__ import annotations

import pytest

from sagemaker_byoc.region.engines.process import make_engine


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    found = make_engine(tmp_path_factory.mktemp("probe"))
    if not found.unshare:
        pytest.skip("this kernel forbids mount namespaces")
    return found
