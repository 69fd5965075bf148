"""The rules on plain numbers: AWS's own published vectors, and the edges of each definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.training.library.watch.panel import Panel
from sagemaker_byoc.training.library.watch.rules import losses, system, tensors
from sagemaker_byoc.training.library.watch.rules.base import (
    EVAL,
    GRADIENTS,
    WEIGHTS,
    Activation,
    Loss,
    Reading,
    Stats,
)
from sagemaker_byoc.training.library.watch.settings import (
    BY_NAME,
    SYSTEM_RULES,
    TENSOR_RULES,
    make_rule,
)

FALLING = [(0, 0.3), (4, 0.33), (8, 0.31), (12, 0.30), (16, 0.28)]
"""smdebug's tests/analysis/rules/test_loss_decrease.py, 2019."""


def steps_fired(rule, points):
    return [one.step for step, value in points for one in rule.loss(Loss(step, value))]


def shown(rule, *steps, collection=WEIGHTS):
    """A tensor's values at each step."""
    return [
        list(rule.tensors(step, [Stats.of("layer.weight", collection, values)]))
        for step, values in enumerate(steps)
    ]


def lasting(points, rule, error=0.0):
    """The first step at which a training may be stopped for its loss; None if there is none."""
    panel = Panel([rule])
    for step, value in points:
        found = panel.loss(Loss(step, value, error=error))
        if any(map(panel.may_stop, found)):
            return step
    return None


@pytest.mark.parametrize(
    ("values", "error", "stop"),
    [
        ([1.0 + 0.1 * n for n in range(40)], 0.0, 30),
        ([1.0 + 0.02 * n for n in range(40)], 0.02, 200),  # within chance from look to look
        ([1.0] * 40, 0.0, 200),  # it never fell
        ([1.0 + 0.1 * (-1) ** n for n in range(40)], 0.1, 220),
        ([*[1 - 0.1 * n for n in range(9)], *[0.2] * 40], 0.0, None),  # converged
        ([*[1 - 0.1 * n for n in range(9)], *[0.2, 0.24] * 20], 0.02, None),
        ([1.0, 0.9, 1.4, 1.5, 0.8, 0.7, 0.9, 0.6], 0.0, None),  # spikes
        ([1.0 - 0.001 * n for n in range(99)], 0.1, None),  # slow
    ],
)
def test_losses_that_stop(values, error, stop):
    """A plateau, a spike and a slow fall are of a healthy training."""
    points = [(10 * number, value) for number, value in enumerate(values)]
    assert lasting(points, losses.LossNotDecreasing(), error) == stop


@pytest.mark.parametrize(
    ("rule", "values", "stop"),
    [
        (tensors.VanishingGradient(), [0, 0, 1, 0, 0], False),  # LoRA's A, an idle expert
        (tensors.VanishingGradient(), [1e-8, 1e-9, 1e-8, 1e-9], False),  # queries and keys
        (tensors.VanishingGradient(threshold=1e-6), [1e-7] * 3, True),
        (tensors.VanishingGradient(), [1e-12] * 3, True),
        (tensors.AllZero(), [0, 0, 0], False),  # the first look is not judged
        (tensors.AllZero(), [0, 0, 0, 0], True),
        (tensors.ExplodingTensor(), [math.nan], True),
    ],
)
def test_tensors_that_stop(rule, values, stop):
    """Only what lasts."""
    panel = Panel([rule])
    for step, value in enumerate(values):
        found = panel.tensors(step, [Stats.of("gradient/weight", GRADIENTS, [value])])
    assert any(map(panel.may_stop, found)) == stop


def test_labels_stop_nothing():
    """A classifier's first predictions are wrong."""
    panel = Panel([losses.Confusion()])
    for step in range(9):
        found = panel.predictions(step, np.array([0, 1] * 99), np.array([1, 0] * 99))
        assert found
        assert not any(map(panel.may_stop, found))


def test_the_count_of_rules():
    """Fifteen over tensors; AWS's names."""
    assert len(TENSOR_RULES) == 15
    assert len(SYSTEM_RULES) == 8
    assert "StalledTrainingRule" in BY_NAME


def test_aws_loss_not_decreasing():
    """Fires at step 12 with 0.30 after 0.3, and not if it only looks from 13 on."""
    assert steps_fired(losses.LossNotDecreasing(), FALLING) == [12]
    assert steps_fired(losses.LossNotDecreasing(start_step=13), FALLING) == []


def test_loss_judged_once_in_num_steps():
    """A loss that stands still is said each ten steps, not each step."""
    still = [(step, 1.0) for step in range(31)]
    assert steps_fired(losses.LossNotDecreasing(), still) == [10, 20, 30]


def test_loss_rise_is_called_one():
    """By increase_threshold_percent."""
    rule = losses.LossNotDecreasing()
    assert list(rule.loss(Loss(0, 1.0))) == []
    [found] = rule.loss(Loss(10, 1.2))
    assert "rose" in found.verdict
    assert found.value == pytest.approx(-20)


def test_loss_within_chance():
    """Two differences that may be chance are no verdict, three without a fall are."""
    rule = losses.LossNotDecreasing()
    noisy = [Loss(10 * n, 1.0 + 0.0001 * (-1) ** n, error=0.1) for n in range(5)]
    assert [one.step for loss in noisy for one in rule.loss(loss)] == [30, 40]


def test_a_loss_that_is_not_a_number_is_another_rules():
    """ExplodingTensor's."""
    assert steps_fired(losses.LossNotDecreasing(), [(0, 1.0), (10, math.nan)]) == []


def test_overfit():
    """The ratio must hold more often than patience says."""
    rule = losses.Overfit()
    found = [[*rule.loss(Loss(step, 1.0)), *rule.loss(Loss(step, 1.2, EVAL))] for step in range(3)]
    assert [len(one) for one in found] == [0, 1, 1]
    assert not [*rule.loss(Loss(4, 1.0)), *rule.loss(Loss(4, 1.05, EVAL))]


def test_overtraining():
    """Both patiences must be over."""
    rule = losses.Overtraining(patience_train=2, patience_validation=3)
    fired = []
    for step in range(5):
        fired += rule.loss(Loss(step, 0.5))
        fired += rule.loss(Loss(step, 0.6, EVAL))
    assert [one.step for one in fired] == [3, 4, 4]


def test_aws_unchanged_tensor():
    """Two equal steps are silent, three fire; a change within the tolerance is none."""
    ones = np.ones((4, 4))
    assert shown(tensors.UnchangedTensor(), ones, ones)[-1] == []
    assert len(shown(tensors.UnchangedTensor(), ones, ones, ones * (1 + 1e-6))[-1]) == 1
    assert shown(tensors.UnchangedTensor(), ones, ones, ones * 1.001)[-1] == []


def test_unchanged_by_norms():
    """Without values, as while a training runs."""
    rule = tensors.UnchangedTensor()
    same = Stats("w", WEIGHTS, mean_abs=0.5, max_abs=2.0)
    other = Stats("w", WEIGHTS, mean_abs=0.5000002, max_abs=2.0)
    assert [len(list(rule.tensors(n, [same]))) for n in range(3)] == [0, 0, 1]
    assert list(rule.tensors(3, [other])) == []


def test_vanishing_gradient():
    """Below the threshold; only gradients."""
    rule = tensors.VanishingGradient()
    assert len(shown(rule, [1e-8, -1e-8], collection=GRADIENTS)[0]) == 1
    assert shown(rule, [1e-6, -1e-6], collection=GRADIENTS)[0] == []
    assert shown(rule, [0.0, 0.0])[0] == []


@pytest.mark.parametrize(
    ("value", "only_nan", "count"),
    [(math.nan, False, 1), (math.inf, False, 1), (math.inf, True, 0), (math.nan, True, 1)],
)
def test_exploding_tensor(value, only_nan, count):
    """Infinite values count unless only NaN is wanted."""
    assert len(shown(tensors.ExplodingTensor(only_nan=only_nan), [1.0, value])[0]) == count


def test_all_zero():
    """The first look is not judged, unless the tensors were named."""
    assert [len(one) for one in shown(tensors.AllZero(), [0.0], [0.0], [0.1])] == [0, 1, 0]
    assert len(shown(tensors.AllZero(tensor_regex="weight"), [0.0])[0]) == 1
    assert len(shown(tensors.AllZero(threshold=50), [1.0, 1.0], [0.0, 1.0])[1]) == 1


def test_choice_of_tensors():
    """By collection or by name; the rest is left alone."""
    rule = make_rule("AllZero", {"tensor_regex": "^other"})
    assert shown(rule, [0.0], [0.0]) == [[], []]


def test_tensor_variance():
    """Both bounds."""
    wide, narrow = [-10.0, 10.0], [0.1, 0.1001]
    rule = tensors.TensorVariance(max_threshold=50, min_threshold=1e-3)
    assert [[one.threshold for one in found] for found in shown(rule, wide, narrow)] == [
        [50],
        [1e-3],
    ]
    assert shown(tensors.TensorVariance(), wide)[0] == []


def test_weight_update_ratio():
    """Ours is mean(abs(change)) over mean(abs(weight))."""
    rule = tensors.WeightUpdateRatio()
    assert rule.ratio([1.0, -3.0], [1.5, -2.5]) == pytest.approx(0.25)
    assert len(list(rule.updates(1, {"w": 11.0, "v": 0.1, "u": 1e-9}))) == 2
    assert list(tensors.WeightUpdateRatio(num_steps=5).updates(6, {"w": 11.0})) == []


def test_activations():
    """Percent of the units that are awake; relu and the others each by their own rule."""
    layers = [
        Activation("a", "relu", active=40.0, input_variance=1.0),
        Activation("b", "tanh", active=10.0, input_variance=50.0),
        Activation("c", "relu", active=60.0, input_variance=20.0),
    ]
    assert [one.tensor for one in tensors.DeadRelu().activations(0, layers)] == ["a"]
    assert [one.tensor for one in tensors.SaturatedActivation().activations(0, layers)] == ["b"]
    [found] = tensors.PoorWeightInitialization().activations(0, layers)
    assert found.value == 20
    assert list(tensors.PoorWeightInitialization().activations(11, layers)) == []


def test_aws_class_imbalance():
    """990 labels to 10; with few labels nothing is said."""
    many = np.array([0] * 990 + [1] * 10)
    [found] = losses.ClassImbalance().predictions(0, many, many)
    assert found.value == 99
    assert list(losses.ClassImbalance().predictions(0, many[-100:], many[-100:])) == []


def test_misprediction():
    """A class that is nearly always taken for another."""
    truth = np.array([0] * 300 + [1] * 300)
    [found] = losses.ClassImbalance().predictions(0, truth, np.zeros_like(truth))
    assert (found.tensor, found.value) == ("class 1", 1.0)


def test_aws_confusion():
    """The identity is silent; one wrong row fires, with the defaults and off the diagonal only."""
    assert list(losses.Confusion().matrix(0, np.eye(10))) == []
    wrong = np.eye(10)
    wrong[3] = 0.1
    assert {one.tensor for one in losses.Confusion().matrix(0, wrong)} == {"class 3"}
    rule = losses.Confusion(min_diag=0, max_off_diag=0.01)
    assert len(list(rule.matrix(0, wrong))) == 9


def readings(rule, count, **values):
    found = []
    for number in range(count):
        given = {name: value(number) for name, value in values.items()}
        found += rule.reading(number, Reading(time=number, **given))
    return found


def test_low_gpu_utilization():
    """One idle, one that swings, one busy."""
    rule = system.LowGPUUtilization(patience=100, window=100)
    found = readings(rule, 120, gpus=lambda n: [5.0, 95.0 * (n % 4 > 0), 90.0])
    assert {one.tensor for one in found} == {"gpu0", "gpu1"}


def test_bottlenecks():
    """A GPU that waits for a core, and one that waits for data."""
    cpu = readings(system.CPUBottleneck(), 200, gpus=lambda _: [3.0], cpus=lambda _: [5.0, 99.0])
    io = readings(
        system.IOBottleneck(patience=50), 200, gpus=lambda _: [30.0], io_wait=lambda _: [60.0]
    )
    assert (cpu[0].rule, io[0].rule) == ("CPUBottleneck", "IOBottleneck")
    assert not readings(system.CPUBottleneck(), 200, gpus=lambda _: [3.0], cpus=lambda _: [50.0])


def test_gpu_memory_increase():
    """A leak; the same at a constant use is silent."""
    rule = system.GPUMemoryIncrease(window=50)
    assert readings(rule, 200, gpu_memory=lambda n: [n / 4])
    assert not readings(system.GPUMemoryIncrease(window=50), 200, gpu_memory=lambda _: [80.0])


def test_batch_size():
    """Everything has room."""
    low = {"cpus": lambda _: [20.0], "gpus": lambda _: [30.0]}
    small = readings(system.BatchSize(window=100), 140, gpu_memory=lambda _: [10.0], **low)
    full = readings(system.BatchSize(window=100), 140, gpu_memory=lambda _: [90.0], **low)
    assert small
    assert not full


def test_load_balancing():
    """The distance is 0 for equal histograms and sqrt(ln 2) for ones that share nothing."""
    assert system.jensen_shannon(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(
        math.sqrt(math.log(2))
    )
    rule = system.LoadBalancing(window=50)
    assert readings(rule, 60, gpus=lambda _: [10.0, 90.0])[0].tensor == "gpu0 and gpu1"
    assert not readings(system.LoadBalancing(window=50), 60, gpus=lambda _: [50.0, 50.0])


def test_step_outlier():
    """More than ten steps far above the mean; ten are allowed."""
    usual = [0.01 + 0.0001 * (n % 7) for n in range(1000)]
    assert list(system.StepOutlier().times(1, usual + [1.0] * 10)) == []
    assert len(list(system.StepOutlier().times(1, usual + [1.0] * 11))) == 1


def test_times():
    """A late first step, and a long silence."""
    assert list(system.MaxInitializationTime().first_step(19.0)) == []
    assert len(list(system.MaxInitializationTime().first_step(21.0))) == 1
    assert len(list(system.StalledTrainingRule().silence(7, 1801.0))) == 1


def test_parameters_from_text():
    """As AWS passes them; a wrong name or value says what would be right."""
    rule = make_rule("DeadRelu", {"threshold_layer": "30", "threshold_inactivity": "2.5"})
    assert rule.threshold_layer == 30
    with pytest.raises(ContractError, match="perhaps threshold_layer"):
        make_rule("DeadRelu", {"treshold_layer": "30"})
    with pytest.raises(ContractError, match="expected a float"):
        make_rule("VanishingGradient", {"threshold": "small"})
    with pytest.raises(ContractError, match="Name one of VanishingGradient"):
        make_rule("Vanishing")
