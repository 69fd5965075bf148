"""Which rules there are, and how they are made from a job's text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.training.library.schema import HyperparameterError, parse
from sagemaker_byoc.training.library.watch.rules import losses, system, tensors
from sagemaker_byoc.training.library.watch.rules.base import Rule

TENSOR_RULES: tuple[type[Rule], ...] = (
    tensors.VanishingGradient,
    tensors.ExplodingTensor,
    tensors.PoorWeightInitialization,
    tensors.SaturatedActivation,
    tensors.DeadRelu,
    tensors.WeightUpdateRatio,
    tensors.AllZero,
    tensors.UnchangedTensor,
    tensors.TensorVariance,
    losses.LossNotDecreasing,
    losses.Overfit,
    losses.Overtraining,
    losses.ClassImbalance,
    losses.Confusion,
    system.StalledTrainingRule,
)
SYSTEM_RULES: tuple[type[Rule], ...] = (
    system.LowGPUUtilization,
    system.CPUBottleneck,
    system.IOBottleneck,
    system.GPUMemoryIncrease,
    system.BatchSize,
    system.LoadBalancing,
    system.StepOutlier,
    system.MaxInitializationTime,
)
BY_NAME = {rule.__name__: rule for rule in (*TENSOR_RULES, *SYSTEM_RULES)}
ACTIVATION_RULES = ("PoorWeightInitialization", "SaturatedActivation", "DeadRelu")
"""Only those who name them pay for looking into the forward pass."""


def default_rules() -> list[Rule]:
    return [rule() for name, rule in BY_NAME.items() if name not in ACTIVATION_RULES]


def all_rules() -> list[Rule]:
    return [rule() for rule in BY_NAME.values()]


def make_rule(name: str, parameters: Mapping[str, Json] | None = None) -> Rule:
    """The rule of AWS's name, with AWS's parameters as text or as values."""
    kind = BY_NAME.get(name)
    if kind is None:
        raise ContractError(
            where=f"watch: rule {name!r}",
            what="is not known",
            hint=f"Name one of {', '.join(BY_NAME)}",
        )
    texts = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in (parameters or {}).items()
        if value is not None
    }
    try:
        return parse(kind, texts)
    except HyperparameterError as error:
        raise ContractError(
            where=f"watch: rule {name}",
            what="; ".join(str(problem) for problem in error.problems),
            hint="Correct its parameters",
        ) from error


def parameters_of(rule: Rule) -> dict[str, Json]:
    """The values in use, for the page and the log."""
    return {
        field.name: getattr(rule, field.name) for field in dataclasses.fields(rule) if field.init
    }
