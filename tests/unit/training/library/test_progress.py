"""A step that is done renews the file by which the supervisor sees progress."""

from __future__ import annotations

import pytest
from torch import nn

from sagemaker_byoc.contract.variables import PROGRESS_FILE
from sagemaker_byoc.training import Checkpointer, Metrics
from sagemaker_byoc.training.library.ranks import Progress


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "progress"
    monkeypatch.setenv(PROGRESS_FILE, str(path))
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    return path


def test_nothing_without_a_watchdog(monkeypatch):
    """The variable is the supervisor's; without it there is nothing to renew."""
    monkeypatch.delenv(PROGRESS_FILE, raising=False)
    Progress().report()


def test_metrics_report(file):
    """A script that only logs is seen to progress."""
    with Checkpointer(model=nn.Linear(1, 1), folder=file.parent / "c"):
        assert not file.exists()
    Metrics(every=100).log(1, {"loss": 1.0})
    assert file.exists()


def test_checkpointer_reports(file):
    """So is one that only checkpoints."""
    with Checkpointer(model=nn.Linear(1, 1), folder=file.parent / "c") as checkpointer:
        checkpointer.step(1)
    assert file.exists()
