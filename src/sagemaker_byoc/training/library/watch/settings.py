"""What the job asks of the watch: BYOC_WATCH, debughookconfig.json and profilerconfig.json.

BYOC_WATCH is 1 for the default rules, `all`, names separated by commas, or a JSON object:
`{"rules": {"DeadRelu": {"threshold_layer": 30}}, "save_interval": 100, "action": "stop"}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.cluster import Cluster
from sagemaker_byoc.contract.training.debugger import SAVE_INTERVAL, HookConfig, ProfilerConfig
from sagemaker_byoc.contract.training.job import TRAINING_JOB_NAME
from sagemaker_byoc.contract.variables import WATCH
from sagemaker_byoc.training.library.schema import HyperparameterError, parse
from sagemaker_byoc.training.library.watch.rules import losses, system, tensors
from sagemaker_byoc.training.library.watch.rules.base import Rule

WARN, STOP = "warn", "stop"
ACTIONS = (WARN, STOP)
KEYS = ("rules", "save_interval", "action", "webhook")
ON = frozenset({"1", "true", "yes", "on"})
ACTIVATION_COLLECTIONS = ("relu", "tanh", "sigmoid", "activation")

Rules: TypeAlias = "Mapping[str, Mapping[str, Json]] | Sequence[str] | str | None"

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
"""Used only if they are named, since looking into the forward pass takes time."""


def default_rules() -> list[Rule]:
    return [rule() for name, rule in BY_NAME.items() if name not in ACTIVATION_RULES]


def make_rule(name: str, parameters: Mapping[str, Json] | None = None) -> Rule:
    """Make a rule by AWS's name, with AWS's parameters as text or as values."""
    kind = BY_NAME.get(name)
    if kind is None:
        raise ContractError(
            where=f"watch: rule {name!r}",
            what="does not exist",
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


@dataclass(frozen=True, slots=True)
class WatchSettings:
    rules: Sequence[Rule] = field(default_factory=default_rules)
    save_interval: int = SAVE_INTERVAL
    """Steps from one that is checked to the next; the first step always is."""
    start_step: int = 0
    end_step: int | None = None
    include_regex: str | None = None
    """Selects the parameters that are checked; None selects all."""
    action: str = WARN
    webhook: str | None = None
    folder: Path = Path("watch")
    failure: Tree | None = None
    """Where `stop` writes its reason."""
    name: str = ""
    """The job's name."""
    node: str = "algo-1"
    profiler: ProfilerConfig = field(default_factory=ProfilerConfig)
    system_folder: Path | None = None
    """For AWS's system lines; None writes none."""

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise _wrong("action", self.action, " or ".join(ACTIONS))
        if self.save_interval < 1:
            raise _wrong("save_interval", self.save_interval, "a number of steps, from 1")
        if self.webhook is not None and not self.webhook.startswith(("http://", "https://")):
            raise _wrong("webhook", self.webhook, "an http:// or https:// address")


def read_settings(text: str, tree: Tree, environ: Mapping[str, str]) -> WatchSettings:
    """Read the settings of a job; raise ContractError if any is wrong."""
    hook = HookConfig.read(tree, environ) or HookConfig()
    profiler = ProfilerConfig.read(tree, environ)
    given = _given(text)
    rules = make_rules(_rules(given.get("rules")))
    if given.get("rules") is None and _wants_activations(hook):
        known = {rule.name for rule in rules}
        rules += [make_rule(name) for name in ACTIVATION_RULES if name not in known]
    interval = given.get("save_interval")
    return WatchSettings(
        rules=rules,
        save_interval=_steps(interval) if interval is not None else _interval(hook),
        start_step=hook.number("start_step", 0),
        end_step=hook.number("end_step", 0) or None,
        include_regex=hook.parameters.get("include_regex") or None,
        folder=tree.output_data / "watch",
        failure=tree,
        name=environ.get(TRAINING_JOB_NAME, ""),
        node=Cluster.read(tree).current_host,
        profiler=profiler,
        system_folder=_system_folder(profiler, tree),
        action=_text(given, "action") or WARN,
        webhook=_text(given, "webhook"),
    )


def make_rules(given: Rules) -> list[Rule]:
    """Make the default rules for None, all for "all", or those named, with their parameters."""
    if given is None:
        return default_rules()
    if isinstance(given, str):
        if given.strip().lower() == "all":
            return [rule() for rule in BY_NAME.values()]
        given = given.replace(",", " ").split()
    if isinstance(given, Mapping):
        return [make_rule(name, parameters) for name, parameters in given.items()]
    return [make_rule(name) for name in given]


def _system_folder(profiler: ProfilerConfig, tree: Tree) -> Path:
    """Return the folder of AWS's profiler if the job configures it, else the watch's."""
    if profiler.is_asked:
        return profiler.local_path or tree.output / "profiler"
    return tree.output_data / "watch"


def _given(text: str) -> dict[str, Json]:
    text = text.strip()
    if text.lower() in ON:
        return {}
    if not text.startswith("{"):
        return {"rules": text}
    try:
        found: Json = json.loads(text)
    except ValueError as error:
        raise ContractError(
            where=WATCH,
            what=f"is not 1, names of rules or a JSON object ({error})",
            hint='Write something like {"rules": ["ExplodingTensor"], "action": "stop"}',
        ) from error
    if not isinstance(found, dict) or set(found) - set(KEYS):
        raise ContractError(
            where=WATCH,
            what="has an unknown key",
            hint=f"Use {', '.join(KEYS)}",
        )
    return found


def _rules(given: Json) -> Rules:
    if given is None or isinstance(given, str):
        return given
    if isinstance(given, dict):
        return {name: value if isinstance(value, dict) else {} for name, value in given.items()}
    if isinstance(given, list):
        return [str(name) for name in given]
    raise _wrong("rules", given, "names of rules, or an object of their parameters")


def _steps(value: Json) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong("save_interval", value, "a number of steps, from 1")


def _interval(hook: HookConfig) -> int:
    """Return the job's interval; of a list of steps, that between the first two."""
    listed = hook.parameters.get("save_steps", "")
    steps = sorted({int(word) for word in listed.replace(",", " ").split() if word.isdecimal()})
    default = steps[1] - steps[0] if len(steps) > 1 else SAVE_INTERVAL
    return hook.number("save_interval", default)


def _wants_activations(hook: HookConfig) -> bool:
    regexes = [parameters.get("include_regex", "") for parameters in hook.collections.values()]
    words = " ".join([*hook.collections, *regexes, hook.parameters.get("include_regex", "")])
    return any(name in words.lower() for name in ACTIVATION_COLLECTIONS)


def _text(given: Mapping[str, Json], key: str) -> str | None:
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        raise _wrong(key, value, "text")
    return value


def _wrong(key: str, value: object, expected: str) -> ContractError:
    return ContractError(where=f"watch: {key}", what=f"is {value!r}", hint=f"Give {expected}")
