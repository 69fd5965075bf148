"""One check: read the image, apply the static rules, try it in the engine, apply the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sagemaker_byoc.images import scratch
from sagemaker_byoc.images.check.findings import (
    SERVE,
    TRAIN,
    Finding,
    Report,
    Rule,
    Subject,
    apply,
    roles_of,
)
from sagemaker_byoc.images.check.rules import entry, secrets, static
from sagemaker_byoc.images.check.rules import serving as serving_rules
from sagemaker_byoc.images.check.rules import training as training_rules
from sagemaker_byoc.images.check.trials import serving, training
from sagemaker_byoc.images.check.trials.container import Trials
from sagemaker_byoc.images.check.trials.serving import ServingPlan, ServingTrial
from sagemaker_byoc.images.check.trials.training import TrainingPlan, TrainingTrial
from sagemaker_byoc.images.lookup import read_image
from sagemaker_byoc.images.model import Image

T = TypeVar("T")
Measured = dict[str, float | int | str | None]

STATIC: tuple[Rule[Subject], ...] = (
    *sorted((*static.RULES, *entry.RULES), key=lambda rule: rule.id),
    *static.CUDA_RULES,
    *secrets.RULES,
)
TRAINING = training_rules.RULES
SERVING = tuple(sorted(serving_rules.RULES, key=lambda rule: rule.id))
RULES: tuple[Rule[Any], ...] = (*STATIC, *TRAINING, *SERVING)
"""In the order of the page that documents them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """What to check and with what; empty `roles` are found out from the image."""

    image: str
    roles: frozenset[str] = frozenset()
    try_it: bool = True
    """Start containers, if the image is the engine's."""
    layers: bool = True
    """Look into the layers, which reads all of them."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    model: Path | None = None
    payload: bytes | None = None
    content_type: str = "application/json"
    channels: Mapping[str, Path] = field(default_factory=dict)
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    train_seconds: float = 120.0
    """For all training jobs together."""
    startup_seconds: float = 240.0
    """For an endpoint to become healthy."""


def check(
    request: CheckRequest,
    say: Callable[[str], None],
    show: Callable[[Finding], None] = lambda _: None,
) -> Report:
    """Announce each step, and show each finding as soon as it is found.

    Raise ImageError if there is no such image, or no engine to ask for it. What fails later
    is in the report.
    """
    begun = time.monotonic()
    say(f"reading {request.image}")
    image = read_image(request.image, layers=request.layers)
    checking = _Check(request, image, request.roles or roles_of(image), show, Trials(say))
    checking.look()
    reason = checking.untried()
    if reason:
        checking.trials.notes.append(f"anything that needs a running container: {reason}")
    else:
        checking.try_it()
    checking.measured["seconds"] = round(time.monotonic() - begun, 2)
    return checking.report()


@dataclass(slots=True)
class _Check:
    request: CheckRequest
    image: Image
    roles: frozenset[str]
    show: Callable[[Finding], None]
    trials: Trials
    findings: list[Finding] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    measured: Measured = field(default_factory=dict)

    def look(self) -> None:
        """Apply the rules that need no container."""
        self._apply(STATIC, Subject(self.image, self.roles))
        if self.image.files is None:
            self.trials.notes.append("the rules about files: the layers were not read")
        else:
            self.trials.notes += self.image.files.limits

    def untried(self) -> str:
        """Return why no container is started; empty if one is."""
        if not self.request.try_it:
            return "--static"
        if self.image.source != "engine":
            return (
                f"the image is in {_a(self.image.source)}; load or pull it into an engine and name "
                "it as there"
            )
        platform = self.image.config.platform
        return "" if platform in {"linux/amd64", "linux/"} else platform

    def try_it(self) -> None:
        left = self.trials.kept("what earlier checks left", scratch.sweep)
        if left:
            self.trials.say(f"removed {left} thing(s) that a killed `byoc check` had left")
        with scratch.removed():
            if TRAIN in self.roles:
                self.trials.kept("training", self._train)
            if SERVE in self.roles:
                self.trials.kept("serving", self._serve)

    def _apply(self, rules: Sequence[Rule[T]], subject: T) -> None:
        """Apply rules; one that fails does not lose the findings of the others."""
        for rule in rules:
            self.rules.append(rule.id)
            found = self.trials.kept(f"rule {rule.id}", partial(self._found, rule, subject))
            for finding in found or ():
                self.findings.append(finding)
                self.show(finding)

    def _found(self, rule: Rule[T], subject: T) -> list[Finding]:
        return list(apply([rule], subject, self.request.ignored))

    def _train(self) -> None:
        request = self.request
        plan = TrainingPlan(
            image=request.image,
            channels=request.channels,
            hyperparameters=request.hyperparameters,
            environment=request.environment,
            seconds=request.train_seconds,
        )
        trial = training.run(plan, self.trials)
        if trial is None:
            return
        self._apply(TRAINING, trial)
        self.trials.notes += _training_notes(trial)
        self.measured["train.seconds"] = round(trial.tiny.seconds, 2)
        self.measured["train.exit_code"] = trial.tiny.exit_code

    def _serve(self) -> None:
        request = self.request
        plan = ServingPlan(
            image=request.image,
            model=request.model,
            payload=request.payload,
            content_type=request.content_type,
            environment=request.environment,
            labels=dict(self.image.config.labels),
            seconds=request.startup_seconds,
        )
        trial = serving.run(plan, self.trials)
        if trial is None:
            return
        self._apply(SERVING, trial)
        self.trials.notes += _serving_notes(trial)
        self.measured |= _serving_measured(trial)

    def report(self) -> Report:
        return Report(
            image=self.request.image,
            source=self.image.source,
            digest=self.image.digest,
            roles=tuple(sorted(self.roles, reverse=True)),
            findings=tuple(self.findings),
            rules=tuple(self.rules),
            notes=tuple(self.trials.notes),
            unjudged=tuple(self.trials.unjudged),
            measured=self.measured,
        )


def _a(source: str) -> str:
    return f"an {source}" if source[0] in "aeiou" else f"a {source}"


def _training_notes(trial: TrainingTrial) -> list[str]:
    notes = []
    if trial.stop is not None and not trial.stop.running:
        notes.append("SIGTERM to a job: it ended too soon; give it more to do with --hp")
    if not trial.tiny.refused and trial.tiny.exit_code not in {0, None}:
        notes.append("several hosts: one alone does not complete the job")
    return notes


def _serving_notes(trial: ServingTrial) -> list[str]:
    if trial.healthy_after is None:
        return ["requests to the endpoint: it is not healthy"]
    notes = []
    if trial.ruined is None:
        notes.append("whether /ping is true: give --model and --payload that the model answers")
    plain = trial.replies.get("plain")
    if plain is not None and not trial.with_payload and not plain.works:
        notes.append("real requests: none of ours was understood; give --payload FILE")
    return notes


def _serving_measured(trial: ServingTrial) -> Measured:
    found: Measured = {"serve.healthy_after_seconds": _rounded(trial.healthy_after)}
    if trial.load is not None:
        found["serve.worst_ping_seconds"] = _rounded(trial.load.worst_ping)
        found["serve.requests"] = trial.load.requests
    if trial.stop is not None:
        found["serve.stop_seconds"] = _rounded(trial.stop.seconds)
        found["serve.stop_exit_code"] = trial.stop.exit_code
    return found


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
