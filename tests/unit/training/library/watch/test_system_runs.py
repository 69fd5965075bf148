"""Trainings of a sick system or pace: the sampler shows it to each rule, and no other one fires."""

from __future__ import annotations

import itertools
import json
import time

import pytest
import torch
from torch import nn

from sagemaker_byoc.training.library.watch.attach import watch
from sagemaker_byoc.training.library.watch.rules.base import Reading
from sagemaker_byoc.training.library.watch.settings import SYSTEM_RULES
from sagemaker_byoc.training.library.watch.system import Meter

pytestmark = pytest.mark.slow

WINDOW = {"window": 40, "patience": 40}
QUICK = {
    "LowGPUUtilization": WINDOW,
    "CPUBottleneck": {"patience": 40},
    "IOBottleneck": {"patience": 40},
    "GPUMemoryIncrease": WINDOW,
    "BatchSize": WINDOW,
    "LoadBalancing": WINDOW,
}
"""As many readings as a test has time for; every threshold is AWS's. What is about the pace of the
steps stands alone below: on a busy machine it would be right to fire."""
SILENCE_SECONDS = 30
HEALTHY = {"cpus": (40.0, 60.0), "io_wait": (1.0, 2.0), "gpu_memory": (80.0, 80.0), "memory": 50.0}


def reading(number, **values):
    """Two busy GPUs, each with a pace of its own."""
    gpus = (90.0 + 7 * number % 9, 90.0 + 5 * number % 9)
    return Reading(time=1591160699.5 + number, **{"gpus": gpus} | HEALTHY | values)


def waiting(number, percent):
    """Both GPUs, two times of three."""
    return (percent if number % 3 else 95.0,) * 2


SICK = {
    "LowGPUUtilization": lambda n: reading(n, gpus=(40.0 + 7 * n % 9, 40.0 + 5 * n % 9)),
    "CPUBottleneck": lambda n: reading(n, gpus=waiting(n, 3.0), cpus=(99.0, 20.0)),
    "IOBottleneck": lambda n: reading(n, gpus=waiting(n, 30.0), io_wait=(80.0, 0.0)),
    "GPUMemoryIncrease": lambda n: reading(n, gpu_memory=(min(95.0, 40 + n / 2), 80.0)),
    "BatchSize": lambda n: reading(n, gpus=(40.0, 40.0), cpus=(20.0,), gpu_memory=(9.0, 9.0)),
    "LoadBalancing": lambda n: reading(n, gpus=(98.0, 75.0)),
}
ALSO = {"BatchSize": {"LowGPUUtilization"}, "CPUBottleneck": {"LowGPUUtilization"}}
"""A GPU that a small batch or a slow loader leaves idle is one that is used too little."""


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Steps of a small model under the sampler, until `is_over`."""
    tree = tmp_path / "ml"
    (tree / "input" / "config").mkdir(parents=True)
    config = {"ProfilingIntervalInMilliseconds": 2}
    (tree / "input" / "config" / "profilerconfig.json").write_text(json.dumps(config))
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tree))

    def run(show, is_over, rules=QUICK, pause=lambda _: None):
        numbers = itertools.count()
        monkeypatch.setattr(Meter, "read", lambda _: show(next(numbers)))
        watched = watch(rules=rules, save_interval=50, folder=tmp_path / "watch")
        try:
            model = nn.Linear(4, 1)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
            deadline = time.monotonic() + SILENCE_SECONDS
            for step in itertools.count():
                model(torch.ones(2, 4)).sum().backward()
                optimizer.step()
                pause(step)
                if is_over(watched, step):
                    break
                assert time.monotonic() < deadline
        finally:
            watched.close()
        return {finding.rule for finding in watched.findings}

    return run


def test_every_system_rule_is_here():
    """Two of them by the steps and not by the system."""
    assert {rule.__name__ for rule in SYSTEM_RULES} == {
        *SICK,
        "StepOutlier",
        "MaxInitializationTime",
    }


@pytest.mark.parametrize("rule", SICK)
def test_sick(train, rule):
    """Its own rule fires, and none that has nothing to do with it."""
    fired = train(SICK[rule], lambda watched, _: any(f.rule == rule for f in watched.findings))
    assert rule in fired
    assert fired <= {rule} | ALSO.get(rule, set())


def test_healthy(train):
    """Two GPUs with enough to do: all have judged, none says anything."""
    looks = 160
    fired = train(reading, lambda watched, _: watched.panel.looked.get("BatchSize", 0) > looks)
    assert fired == set()


def test_slow_steps(train):
    """Each twentieth one waits."""
    rules = {"StepOutlier": {"stddev": 2}}
    fired = train(
        reading,
        lambda _, step: step == 300,
        rules=rules,
        pause=lambda step: time.sleep(0.02) if step % 20 == 0 else None,
    )
    assert fired == {"StepOutlier"}


def test_late_start(train):
    """This process is older than a ten-thousandth of a minute."""
    rules = {"MaxInitializationTime": {"threshold": 1e-4}}
    assert train(reading, lambda _, step: step == 0, rules=rules) == {"MaxInitializationTime"}


def test_stalled(train):
    """A step that does not come; the sampler's thread says so while it is waited for."""
    rules = {"StalledTrainingRule": {"threshold": 0.2}}

    def stands_still(watched, _):
        deadline = time.monotonic() + SILENCE_SECONDS
        while not watched.findings:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return True

    assert train(reading, stands_still, rules=rules) == {"StalledTrainingRule"}
