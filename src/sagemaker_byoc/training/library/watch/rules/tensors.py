"""Rules over gradients, weights and activation layers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from sagemaker_byoc.training.library.watch.rules.base import (
    GRADIENTS,
    LOSSES,
    TRAIN,
    WEIGHTS,
    Activation,
    Finding,
    Loss,
    Rule,
    Stats,
)

LASTING = 3
"""Consecutive checks after which a small gradient or change lasts."""
VANISHING = 1e-7
CERTAINLY = 1e-3
"""Share of VANISHING for a stop: a healthy transformer's queries and keys may be below it."""
SAME = 1e-7
"""Relative difference below which two float32 sums are of the same numbers."""


def chosen(
    found: Sequence[Stats], collections: str | None, regex: str | None, default: Sequence[str]
) -> Iterator[Stats]:
    """Yield the tensors of the named collections or with a matching name, else of `default`."""
    names = collections.replace(",", " ").split() if collections else ()
    for stats in found:
        by_name = bool(regex) and re.search(regex or "", stats.name) is not None
        is_default = not names and not regex and stats.collection in default
        if by_name or stats.collection in names or is_default:
            yield stats


@dataclass
class VanishingGradient(Rule):
    """mean(abs(gradient)) of a weight is below the threshold. Biases are left out: before a
    normalization layer their gradient is zero by design."""

    advice: ClassVar[str] = (
        "Use residual connections, normalization or ReLU, a better initialization, or fewer layers"
    )
    stops_after: ClassVar[int] = LASTING
    threshold: float = VANISHING

    def count(self, found: Sequence[Finding]) -> None:
        """Count only certain findings, unless the job sets the threshold."""
        limit = VANISHING * CERTAINLY if self.threshold == VANISHING else self.threshold
        super().count([one for one in found if one.value < limit])

    def tensors(self, step: int, found: Sequence[Stats]) -> Iterator[Finding]:
        for stats in found:
            if stats.collection != GRADIENTS:
                continue
            self.judged += 1
            if stats.mean_abs < self.threshold:
                verdict = f"mean of absolute values {stats.mean_abs:.3g} < {self.threshold:g}"
                yield self.finding(step, stats.name, stats.mean_abs, self.threshold, verdict)


@dataclass
class ExplodingTensor(Rule):
    """Any value is not finite; with `only_nan`, any is NaN."""

    advice: ClassVar[str] = (
        "Lower the learning rate, clip the gradients, or look at the data of this step"
    )
    collection_names: str | None = None
    tensor_regex: str | None = None
    only_nan: bool = False

    def tensors(self, step: int, found: Sequence[Stats]) -> Iterator[Finding]:
        every = tuple({stats.collection for stats in found})
        for stats in chosen(found, self.collection_names, self.tensor_regex, every):
            self.judged += 1
            if stats.has_nan or (stats.has_inf and not self.only_nan):
                what = "NaN" if stats.has_nan else "infinite"
                yield self.finding(
                    step,
                    stats.name,
                    math.nan if stats.has_nan else math.inf,
                    math.inf,
                    f"some values are {what}",
                )


@dataclass
class AllZero(Rule):
    """A tensor has at least `threshold` percent zeros.

    By default gradients and weights are judged, but not at the first check: layers that start at
    zero are common, and the layers before them have no gradient yet.
    """

    advice: ClassVar[str] = "Look at the initialization, and whether this layer is used at all"
    stops_after: ClassVar[int] = LASTING
    collection_names: str | None = None
    tensor_regex: str | None = None
    threshold: float = 100.0
    _has_begun: bool = field(default=False, init=False)

    def tensors(self, step: int, found: Sequence[Stats]) -> Iterator[Finding]:
        is_first, self._has_begun = not self._has_begun, True
        is_chosen = bool(self.collection_names or self.tensor_regex)
        if is_first and not is_chosen:
            return
        for stats in chosen(found, self.collection_names, self.tensor_regex, (GRADIENTS, WEIGHTS)):
            self.judged += 1
            if stats.zeros >= self.threshold:
                verdict = f"{stats.zeros:.4g} % zeros >= {self.threshold:g} %"
                yield self.finding(step, stats.name, stats.zeros, self.threshold, verdict)


@dataclass
class UnchangedTensor(Rule):
    """A tensor was the same in the last `num_steps` checked steps, by numpy.allclose.

    While a training runs, by the float32 values of its mean and its largest absolute value: so
    nothing large leaves the device, and a large tensor in which a few rows changed is not found.
    """

    advice: ClassVar[str] = "Is the layer frozen by mistake, out of the graph, or the rate too low?"
    collection_names: str | None = None
    tensor_regex: str | None = None
    num_steps: int = 3
    rtol: float = 1e-5
    atol: float = 1e-8
    equal_nan: bool = False
    _seen: dict[str, tuple[Stats, int]] = field(default_factory=dict, init=False)
    """The last numbers of each tensor, and how many consecutive ones were the same."""

    def tensors(self, step: int, found: Sequence[Stats]) -> Iterator[Finding]:
        for stats in chosen(found, self.collection_names, self.tensor_regex, (GRADIENTS, WEIGHTS)):
            if stats.is_resting:
                self._seen.pop(stats.name, None)
                continue
            old, count = self._seen.get(stats.name, (None, 0))
            self.judged += old is not None
            count = count + 1 if old is not None and self._is_same(old, stats) else 1
            self._seen[stats.name] = (stats, count)
            if count >= self.num_steps:
                verdict = f"unchanged in the last {self.num_steps} checked steps"
                yield self.finding(step, stats.name, stats.mean_abs, self.num_steps, verdict)

    def _is_same(self, old: Stats, new: Stats) -> bool:
        if old.is_whole and new.is_whole and old.values is not None and new.values is not None:
            return old.values.shape == new.values.shape and np.allclose(
                old.values, new.values, rtol=self.rtol, atol=self.atol, equal_nan=self.equal_nan
            )
        if not math.isclose(old.mean_abs, new.mean_abs, rel_tol=SAME):
            return False
        if old.max_abs is None or new.max_abs is None:
            return True
        return math.isclose(old.max_abs, new.max_abs, rel_tol=SAME)


@dataclass
class TensorVariance(Rule):
    """The variance of a tensor's values is outside the given bounds.

    While a training runs, of at most 1024 values at equal distances.
    """

    advice: ClassVar[str] = "Look at the initialization and the learning rate"
    collection_names: str | None = None
    tensor_regex: str | None = None
    max_threshold: float | None = None
    min_threshold: float | None = None

    @property
    def needs(self) -> str:
        has_bound = self.max_threshold is not None or self.min_threshold is not None
        return "" if has_bound else "needs a bound"

    def tensors(self, step: int, found: Sequence[Stats]) -> Iterator[Finding]:
        for stats in chosen(found, self.collection_names, self.tensor_regex, (GRADIENTS, WEIGHTS)):
            if stats.values is None or stats.values.size < 2 or stats.has_nan or stats.has_inf:
                continue
            self.judged += 1
            variance = float(np.var(stats.values))
            if self.max_threshold is not None and variance > self.max_threshold:
                verdict = f"variance {variance:.3g} > {self.max_threshold:g}"
                yield self.finding(step, stats.name, variance, self.max_threshold, verdict)
            elif self.min_threshold is not None and variance < self.min_threshold:
                verdict = f"variance {variance:.3g} < {self.min_threshold:g}"
                yield self.finding(step, stats.name, variance, self.min_threshold, verdict)


@dataclass
class WeightUpdateRatio(Rule):
    """mean(abs(change)) / (mean(abs(weight)) + epsilon) of one step is very large or small.

    AWS did not publish its reduction over a tensor: this is ours. While a training runs, over at
    most 256 elements at equal distances. `num_steps`: only in steps up to this one.
    """

    advice: ClassVar[str] = "Around 0.001 is usual: change the learning rate accordingly"
    stops_after: ClassVar[int] = LASTING
    num_steps: int | None = None
    large_threshold: float = 10.0
    small_threshold: float = 1e-8
    epsilon: float = 1e-9

    def ratio(self, before: Sequence[float], after: Sequence[float]) -> float:
        old, new = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
        return float(np.abs(new - old).mean() / (np.abs(old).mean() + self.epsilon))

    def updates(self, step: int, ratios: Mapping[str, float]) -> Iterator[Finding]:
        if self.num_steps is not None and step > self.num_steps:
            return
        for name, ratio in ratios.items():
            self.judged += 1
            if ratio > self.large_threshold:
                verdict = f"changed by {ratio:.3g} of itself > {self.large_threshold:g}"
                yield self.finding(step, name, ratio, self.large_threshold, verdict)
            elif ratio < self.small_threshold:
                verdict = f"changed by {ratio:.3g} of itself < {self.small_threshold:g}"
                yield self.finding(step, name, ratio, self.small_threshold, verdict)


def loss_stats(value: float, name: str = "loss") -> Stats:
    """Return the loss as a tensor, for ExplodingTensor."""
    return Stats.of(name, LOSSES, value)


RELU, TANH, SIGMOID = "relu", "tanh", "sigmoid"


@dataclass
class DeadRelu(Rule):
    """More than `threshold_layer` percent of a layer's units are positive for less than
    `threshold_inactivity` percent of their inputs."""

    advice: ClassVar[str] = "Lower the learning rate, start biases at zero, or use leaky ReLU"
    tensor_regex: str = ".*relu_output"
    threshold_inactivity: float = 1.0
    threshold_layer: float = 50.0

    def activations(self, step: int, found: Sequence[Activation]) -> Iterator[Finding]:
        for layer in found:
            name = f"{layer.layer}_relu_output"
            if layer.kind != RELU or not re.search(self.tensor_regex, name):
                continue
            self.judged += 1
            dead = 100 - layer.active
            if dead > self.threshold_layer:
                verdict = f"{dead:.3g} % of the units are dead > {self.threshold_layer:g} %"
                yield self.finding(step, layer.layer, dead, self.threshold_layer, verdict)


@dataclass
class SaturatedActivation(Rule):
    """More than `threshold_layer` percent of a tanh or sigmoid layer's units had less than
    `threshold_inactivity` percent of their inputs in the range where outputs differ."""

    advice: ClassVar[str] = "Use smaller initial weights, normalize the inputs, or use ReLU"
    tensor_regex: str = ".*tanh_input|.*sigmoid_input"
    threshold_tanh_min: float = -9.4999
    threshold_tanh_max: float = 9.4999
    threshold_sigmoid_min: float = -23.0
    threshold_sigmoid_max: float = 16.99999
    threshold_inactivity: float = 1.0
    threshold_layer: float = 50.0

    def range_of(self, kind: str) -> tuple[float, float]:
        if kind == TANH:
            return self.threshold_tanh_min, self.threshold_tanh_max
        return self.threshold_sigmoid_min, self.threshold_sigmoid_max

    def activations(self, step: int, found: Sequence[Activation]) -> Iterator[Finding]:
        for layer in found:
            name = f"{layer.layer}_{layer.kind}_input"
            if layer.kind == RELU or not re.search(self.tensor_regex, name):
                continue
            self.judged += 1
            saturated = 100 - layer.active
            if saturated > self.threshold_layer:
                verdict = f"{saturated:.3g} % of the units saturated > {self.threshold_layer:g} %"
                yield self.finding(step, layer.layer, saturated, self.threshold_layer, verdict)


@dataclass
class PoorWeightInitialization(Rule):
    """In the first steps, the variances of the activation layers' inputs differ by more than
    `threshold`, gradients are closer together than `distribution_range`, or the loss does not fall
    in `patience` checks."""

    advice: ClassVar[str] = "Use the initialization that fits the activations: He, Glorot, LeCun"
    activation_inputs_regex: str = ".*relu_input"
    threshold: float = 10.0
    distribution_range: float = 0.001
    patience: int = 5
    steps: int = 10
    _losses: list[float] = field(default_factory=list, init=False)

    def activations(self, step: int, found: Sequence[Activation]) -> Iterator[Finding]:
        variances = [
            layer.input_variance
            for layer in found
            if re.search(self.activation_inputs_regex, f"{layer.layer}_{layer.kind}_input")
        ]
        if step > self.steps or len(variances) < 2:
            return
        self.judged += 1
        least = min(variances)
        ratio = max(variances) / least if least else float("inf")
        if ratio > self.threshold:
            verdict = f"variances of the layers' inputs differ by {ratio:.3g} > {self.threshold:g}"
            yield self.finding(step, "activation inputs", ratio, self.threshold, verdict)

    def tensors(self, step: int, found: Sequence[Stats]) -> Iterator[Finding]:
        if step > self.steps:
            return
        spreads = {
            stats.name: float(np.subtract(*np.percentile(stats.values, [95, 5])))
            for stats in found
            if stats.collection == GRADIENTS
            and stats.values is not None
            and not stats.has_nan
            and not stats.has_inf
        }
        if not spreads:
            return
        self.judged += 1
        name = min(spreads, key=lambda key: spreads[key])
        if spreads[name] < self.distribution_range:
            verdict = f"95th - 5th percentile {spreads[name]:.3g} < {self.distribution_range:g}"
            yield self.finding(step, name, spreads[name], self.distribution_range, verdict)

    def loss(self, seen: Loss) -> Iterator[Finding]:
        if seen.step > self.steps or seen.mode != TRAIN:
            return
        self._losses.append(seen.value)
        recent = self._losses[-self.patience - 1 :]
        is_enough = len(recent) == self.patience + 1
        self.judged += is_enough
        if is_enough and min(recent[1:]) >= recent[0]:
            verdict = f"the loss did not fall below {recent[0]:.4g} in {self.patience} checks"
            yield self.finding(seen.step, seen.name, min(recent[1:]), recent[0], verdict)
