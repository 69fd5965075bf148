"""When failures show in /ping, and what is read of GPUs: pure."""

from __future__ import annotations

import os

import pytest

from sagemaker_byoc.serving.front.http.front import BUDGET_LEAST, BUDGET_WINDOW, ErrorBudget
from sagemaker_byoc.serving.front.telemetry import metrics


class Minute:
    """A budget, and the counts that it looks at."""

    def __init__(self, most):
        self.budget = ErrorBudget(most)
        self.now = 1000.0
        self.counts = {}
        self.budget.look(self.now, self.counts)

    def answer(self, status, times):
        self.counts[status] = self.counts.get(status, 0) + times
        self.now += 1
        self.budget.look(self.now, self.counts)
        return bool(self.budget.reason)


def test_all_fail():
    """By default only when nothing else happens; one good answer ends it."""
    minute = Minute(100)
    assert not minute.answer(500, BUDGET_LEAST - 1)
    assert minute.answer(507, 1)
    assert minute.budget.reason == f"{BUDGET_LEAST} of {BUDGET_LEAST} requests failed within 60 s"
    assert not minute.answer(200, 1)


def test_share():
    """Or from a share on."""
    minute = Minute(50)
    assert not minute.answer(200, 60)
    assert not minute.answer(500, 59)
    assert minute.answer(500, 1)


def test_recovers():
    """By itself: what is a minute old does not count."""
    minute = Minute(100)
    assert minute.answer(500, 100)
    minute.now += BUDGET_WINDOW
    assert not minute.answer(500, 0)
    assert minute.answer(504, BUDGET_LEAST)


@pytest.mark.parametrize("status", [400, 413, 415, 499, 503])
def test_not_failures(status):
    """What the client or the load is to blame for."""
    assert not Minute(100).answer(status, 1000)


def test_never():
    """0 switches it off."""
    assert not Minute(0).answer(500, 1000)


def test_gpus():
    """In bytes and shares; what a GPU does not know is left out."""
    found = metrics.parse_gpus("0, 37, 1024, 81920, 41\n1, [N/A], 0, 81920, [N/A]\n")
    assert found["gpu_utilization_ratio"][1] == {'{gpu="0"}': pytest.approx(0.37)}
    assert found["gpu_memory_used_bytes"][1] == {'{gpu="0"}': 2**30, '{gpu="1"}': 0.0}
    assert found["gpu_temperature_celsius"][1] == {'{gpu="0"}': 41.0}


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("echo '0, 5, 1, 2, 3'", 4),
        ("exit 9", 0),
        ("echo 'No devices were found'", 0),
        ("echo broken; exit 0", 0),
    ],
)
def test_nvidia_smi(tmp_path, monkeypatch, script, names):
    """Asked as a program; where it fails there are no figures and no error."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    assert len(metrics.read_gpus()) == names


def test_no_nvidia_smi(monkeypatch):
    """Most machines."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert metrics.read_gpus() == {}
