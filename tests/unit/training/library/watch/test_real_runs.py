"""Trainings on scikit-learn's data: each disease is found by its rule, and health by none."""

from __future__ import annotations

import pytest
import torch
from tests.unit.training.library.watch.runs import Data, Run, fired, mlp
from torch import nn

from sagemaker_byoc.training.library.watch import watch as module

pytestmark = pytest.mark.slow

DIGITS = Data.digits()


def sick(tmp_path, make_model, **settings):
    return Run(tmp_path, DIGITS, **settings).train(make_model)


@pytest.fixture(autouse=True)
def one_thread():
    """These models are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def young_process(monkeypatch):
    """The tests' own may be older than any training's beginning should take."""
    monkeypatch.setattr(module, "_process_minutes", lambda: 0.1)


def healthy(tmp_path, seed):
    """Both label rules judge the second: with ten digits and so few steps, some class is poor."""
    digits = Run(tmp_path, DIGITS, seed=seed).train(mlp)
    cancer = Run(
        tmp_path,
        Data.breast_cancer(),
        seed=seed,
        steps=240,
        every=40,
        batch=128,
        rate=2e-3,
        validates=False,
        judges_predictions=True,
    ).train(lambda: mlp(inputs=30, outputs=2, width=64))
    assert digits.panel.broken == cancer.panel.broken == set()
    return [(one.rule, one.verdict) for one in (*digits.findings, *cancer.findings)]


@pytest.mark.slow
def test_healthy(tmp_path):
    """All rules on, their defaults, nothing found; and every tensor rule had something to judge."""
    assert healthy(tmp_path, seed=0) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 20))
def test_healthy_seeds(tmp_path, seed):
    """The budget for false alarms is none in twenty."""
    assert healthy(tmp_path, seed) == []


def deep_sigmoid():
    layers = [layer for _ in range(30) for layer in (nn.Linear(32, 32), nn.Sigmoid())]
    return nn.Sequential(nn.Linear(64, 32), *layers, nn.Linear(32, 10))


@pytest.mark.slow
def test_vanishing_gradient(tmp_path):
    """Thirty sigmoids: the first layers learn nothing."""
    watched = sick(tmp_path, deep_sigmoid, steps=60)
    assert "VanishingGradient" in fired(watched)
    found = [one.tensor for one in watched.findings if one.rule == "VanishingGradient"]
    assert "gradient/0.weight" in found
    assert not {"ExplodingTensor", "DeadRelu", "Overfit"} & fired(watched)


def linear():
    return nn.Sequential(*(nn.Linear(64, 64) for _ in range(5)), nn.Linear(64, 10))


def test_exploding_tensor(tmp_path):
    """A learning rate of a thousand, and nothing that bounds what it does."""
    watched = sick(tmp_path, linear, steps=60, rate=1e3, optimizer=torch.optim.SGD)
    assert {"ExplodingTensor", "WeightUpdateRatio"} <= fired(watched)
    assert not {"VanishingGradient", "AllZero", "DeadRelu"} & fired(watched)


def all_zero():
    model = mlp()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def test_zeros(tmp_path):
    """Weights that start at zero stay there."""
    watched = sick(tmp_path, all_zero, steps=121)
    assert {"AllZero", "UnchangedTensor", "LossNotDecreasing"} <= fired(watched)
    assert "ExplodingTensor" not in fired(watched)


def dead():
    model = mlp(drop=0.0)
    nn.init.constant_(model[0].bias, -10.0)
    return model


def test_dead_relu(tmp_path):
    """A bias far below zero puts the whole layer to sleep; the layer is named."""
    watched = sick(tmp_path, dead, steps=61)
    found = {one.tensor for one in watched.findings if one.rule == "DeadRelu"}
    assert "1" in found
    assert "SaturatedActivation" not in fired(watched)


def saturated():
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    nn.init.normal_(model[0].weight, std=5000.0)
    return model


def test_saturated_activation(tmp_path):
    """Weights so large that tanh is always one or minus one."""
    watched = sick(tmp_path, saturated, steps=31)
    assert "SaturatedActivation" in fired(watched)
    assert "DeadRelu" not in fired(watched)


def badly_begun():
    model = mlp(drop=0.0)
    nn.init.normal_(model[0].weight, std=5.0)
    nn.init.normal_(model[3].weight, std=5.0)
    return model


def test_poor_weight_initialization(tmp_path):
    """Each layer's inputs are a hundred times those of the layer before."""
    watched = sick(tmp_path, badly_begun, steps=12)
    assert "PoorWeightInitialization" in fired(watched)


def test_weight_update_ratio(tmp_path):
    """Ten thousand times the weights in one step, though ReLU keeps everything finite."""
    watched = sick(tmp_path, mlp, steps=12, rate=1e3, optimizer=torch.optim.SGD)
    assert {"WeightUpdateRatio", "DeadRelu"} <= fired(watched)
    assert "ExplodingTensor" not in fired(watched)


@pytest.mark.slow
def test_overfit(tmp_path):
    """Sixty examples, learnt by heart."""
    watched = sick(tmp_path, lambda: mlp(drop=0.0), examples=60, steps=300)
    assert "Overfit" in fired(watched)
    assert not {"ExplodingTensor", "VanishingGradient", "DeadRelu"} & fired(watched)


@pytest.mark.slow
def test_overtraining(tmp_path):
    """On and on, long after anything was gained."""
    watched = sick(tmp_path, lambda: mlp(drop=0.1), steps=480, rate=1e-2, batch=256)
    assert "Overtraining" in fired(watched)


def test_loss_not_decreasing(tmp_path):
    """A learning rate of nothing: only three looks that may each be chance make a verdict."""
    watched = sick(tmp_path, mlp, steps=180, rate=0.0, optimizer=torch.optim.SGD)
    assert {"LossNotDecreasing", "UnchangedTensor", "WeightUpdateRatio"} <= fired(watched)
    assert "AllZero" not in fired(watched)


def test_poor_labels(tmp_path):
    """One class in eleven times the number of another, and a model that knows none of them."""
    rare = DIGITS.labels == 3
    kept = ~rare | (torch.arange(len(rare)) % 15 == 0)
    data = Data(DIGITS.inputs[kept], DIGITS.labels[kept])
    rules = {"ClassImbalance": {"samples": 200}, "Confusion": {}}
    run = Run(tmp_path, data, steps=61, rate=1e-5, rules=rules, judges_predictions=True)
    assert fired(run.train(mlp)) == {"ClassImbalance", "Confusion"}


def test_tensor_variance(tmp_path):
    """Only with a bound that someone gave."""
    rules = {"TensorVariance": {"max_threshold": 1e-6, "collection_names": "weights"}}
    watched = sick(tmp_path, mlp, steps=31, rules=rules)
    assert {one.tensor for one in watched.findings} == {"0.weight", "3.weight", "6.weight"}
