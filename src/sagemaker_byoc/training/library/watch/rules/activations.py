"""Rules over activation layers: what went into them, and how much of them is awake.

Definitions and defaults: SageMaker developer guide, debugger-built-in-rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from sagemaker_byoc.training.library.watch.finding import Finding
from sagemaker_byoc.training.library.watch.rules.base import (
    GRADIENTS,
    TRAIN,
    Activation,
    Loss,
    Rule,
    Stats,
)

RELU, TANH, SIGMOID = "relu", "tanh", "sigmoid"


@dataclass
class DeadRelu(Rule):
    """More than `threshold_layer` percent of a layer's units positive for less than
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
    `threshold_inactivity` percent of their inputs in the range where they still tell apart."""

    advice: ClassVar[str] = "Use smaller initial weights, normalise the inputs, or use ReLU"
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
    """In the first steps: the variances of what goes into the activation layers differ by more
    than `threshold`, gradients lie closer together than `distribution_range`, or the loss does
    not fall in `patience` looks at it."""

    advice: ClassVar[str] = "Use the initialisation that fits the activations: He, Glorot, LeCun"
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
            verdict = f"the loss did not fall below {recent[0]:.4g} in {self.patience} looks"
            yield self.finding(seen.step, seen.name, min(recent[1:]), recent[0], verdict)
