"""All rules together: each is shown its kind of data, and none may break the training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from sagemaker_byoc.training.library.watch.probe import Wants
from sagemaker_byoc.training.library.watch.rules.base import (
    Activation,
    Finding,
    Integers,
    Loss,
    Reading,
    Rule,
    Stats,
    say_to_log,
)
from sagemaker_byoc.training.library.watch.rules.system import (
    MaxInitializationTime,
    StalledTrainingRule,
)
from sagemaker_byoc.training.library.watch.rules.tensors import (
    AllZero,
    DeadRelu,
    PoorWeightInitialization,
    SaturatedActivation,
    TensorVariance,
    WeightUpdateRatio,
)
from sagemaker_byoc.training.library.watch.settings import ACTIVATION_RULES, SYSTEM_RULES

ADVISORY = frozenset(
    {*(rule.__name__ for rule in SYSTEM_RULES), "ClassImbalance", "Confusion"},
)
"""Rules that never stop a training: a classifier's first predictions are wrong."""
LOSS_RULES = frozenset({"LossNotDecreasing", "Overfit", "Overtraining"})
VALIDATION = -1
"""The optimizer number for validation losses that belong to no single optimizer."""


class Panel:
    """The rules of all optimizers. Rules keep earlier steps, so each optimizer has copies."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = list(rules)
        """The rules of the first optimizer, and those about the process."""
        self._others: dict[int, list[Rule]] = {}
        self.looked: dict[str, int] = {}
        """How often each rule was shown data."""
        self.broken: set[str] = set()
        self._lasting: set[tuple[str, str]] = set()
        """Rules and tensors whose last finding was one that lasts."""

    def judged(self, name: str) -> int:
        """Return how often a rule had enough data to judge."""
        every = [*self.rules, *(rule for rules in self._others.values() for rule in rules)]
        return sum(rule.judged for rule in every if rule.name == name)

    def keep_only(self, *names: str) -> None:
        self.rules = [rule for rule in self.rules if rule.name in names]

    @property
    def wants(self) -> Wants:
        return Wants(
            values=any(
                isinstance(rule, PoorWeightInitialization)
                or (isinstance(rule, TensorVariance) and not rule.needs)
                for rule in self.rules
            ),
            zeros=any(isinstance(rule, AllZero) and rule.threshold < 100 for rule in self.rules),
            updates=any(isinstance(rule, WeightUpdateRatio) for rule in self.rules),
        )

    @property
    def epsilon(self) -> float:
        found = [rule.epsilon for rule in self.rules if isinstance(rule, WeightUpdateRatio)]
        return found[0] if found else WeightUpdateRatio.epsilon

    @property
    def wants_activations(self) -> bool:
        return any(rule.name in ACTIVATION_RULES for rule in self.rules)

    @property
    def ranges(self) -> SaturatedActivation:
        found = [rule for rule in self.rules if isinstance(rule, SaturatedActivation)]
        return found[0] if found else SaturatedActivation()

    @property
    def inactivity(self) -> float:
        """DeadRelu's threshold in percent, else SaturatedActivation's, with the same default."""
        found = [rule.threshold_inactivity for rule in self.rules if isinstance(rule, DeadRelu)]
        return found[0] if found else self.ranges.threshold_inactivity

    @property
    def first_steps(self) -> int:
        """First steps that are all checked, since a rule is about them."""
        found = [rule.steps for rule in self.rules if isinstance(rule, PoorWeightInitialization)]
        return max(found, default=0)

    @property
    def stops_when_stalled(self) -> bool:
        return any(
            isinstance(rule, StalledTrainingRule) and rule.stop_training_on_fire
            for rule in self.rules
        )

    def may_stop(self, found: Finding, *, has_several_losses: bool = False) -> bool:
        """Return whether a training may be stopped for a finding.

        Rules about the system and about labels only advise, and so do those about losses if several
        are trained against each other: there a loss that rises may be a good sign.
        """
        is_advice = found.rule in ADVISORY or (has_several_losses and found.rule in LOSS_RULES)
        return not is_advice and (found.rule, found.tensor) in self._lasting

    def tensors(self, step: int, found: Sequence[Stats], number: int = 0) -> list[Finding]:
        return self._ask("tensors", lambda rule: rule.tensors(step, found), number) if found else []

    def updates(self, step: int, ratios: Mapping[str, float], number: int = 0) -> list[Finding]:
        if not ratios:
            return []
        return self._ask("updates", lambda rule: rule.updates(step, ratios), number)

    def loss(self, seen: Loss, number: int = 0) -> list[Finding]:
        return self._ask("loss", lambda rule: rule.loss(seen), number)

    def activations(self, step: int, found: Sequence[Activation], number: int = 0) -> list[Finding]:
        if not found:
            return []
        return self._ask("activations", lambda rule: rule.activations(step, found), number)

    def predictions(self, step: int, labels: Integers, predicted: Integers) -> list[Finding]:
        if not len(labels):
            return []
        return self._ask("predictions", lambda rule: rule.predictions(step, labels, predicted))

    def reading(self, step: int, reading: Reading) -> list[Finding]:
        return [
            finding
            for rule in self._those_with("reading")
            if rule.sees(reading)
            for finding in self._guarded(rule, lambda rule: rule.reading(step, reading))
        ]

    def times(self, step: int, seconds: Sequence[float], number: int = 0) -> list[Finding]:
        return self._ask("times", lambda rule: rule.times(step, seconds), number)

    def first_step(self, minutes: float) -> list[Finding]:
        return self._ask_one(MaxInitializationTime, lambda rule: rule.first_step(minutes))

    def silence(self, step: int, seconds: float) -> list[Finding]:
        return self._ask_one(StalledTrainingRule, lambda rule: rule.silence(step, seconds))

    def _ask(
        self, method: str, ask: Callable[[Rule], Iterable[Finding]], number: int = 0
    ) -> list[Finding]:
        found: list[Finding] = []
        for rule in self._those_with(method, number):
            found += self._guarded(rule, ask)
        return found

    def _those_with(self, method: str, number: int = 0) -> list[Rule]:
        own = getattr(Rule, method)
        rules = self.rules if number == 0 else self._copies(number)
        return [rule for rule in rules if getattr(type(rule), method) is not own and not rule.needs]

    def _copies(self, number: int) -> list[Rule]:
        """Return the rules of another optimizer: copies that have seen nothing yet."""
        if number not in self._others:
            self._others[number] = [replace(rule) for rule in self.rules]
        return self._others[number]

    def _ask_one(self, kind: type[Rule], ask: Callable[..., Iterable[Finding]]) -> list[Finding]:
        return [
            finding
            for rule in self.rules
            if isinstance(rule, kind)
            for finding in self._guarded(rule, ask)
        ]

    def _guarded(self, rule: Rule, ask: Callable[..., Iterable[Finding]]) -> list[Finding]:
        """Ask a rule; if it fails, log that once and switch the rule off."""
        if rule.name in self.broken:
            return []
        self.looked[rule.name] = self.looked.get(rule.name, 0) + 1
        before = rule.judged
        try:
            found = list(ask(rule))
        except Exception as error:  # noqa: BLE001 - see above
            self.broken.add(rule.name)
            say_to_log(f"{rule.name} is off: {type(error).__name__}: {error}")
            return []
        if rule.judged > before:
            self._count(rule, found)
        return found

    def _count(self, rule: Rule, found: Sequence[Finding]) -> None:
        rule.count(found)
        for one in found:
            key = (rule.name, one.tensor)
            (self._lasting.add if rule.lasts(one.tensor) else self._lasting.discard)(key)
