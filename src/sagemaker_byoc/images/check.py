"""One check: read the image, apply the static rules, try it in the engine, apply the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sagemaker_byoc.images.findings import Finding, apply
from sagemaker_byoc.images.report import Report
from sagemaker_byoc.images.rules import table
from sagemaker_byoc.images.rules.subject import SERVE, TRAIN, Subject, roles_of
from sagemaker_byoc.images.sources.find import read_image
from sagemaker_byoc.images.trials import serving, training
from sagemaker_byoc.images.trials.serving import ServingPlan, ServingTrial
from sagemaker_byoc.images.trials.training import TrainingPlan, TrainingTrial

Measured = dict[str, float | int | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """What to check and with what; empty `roles` are found out from the image."""

    image: str
    roles: frozenset[str] = frozenset()
    try_it: bool = True
    """Start containers, where the image is the engine's."""
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
    startup_seconds: float = 240.0


@dataclass(slots=True)
class _Collected:
    findings: list[Finding] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    measured: Measured = field(default_factory=dict)


def check(request: CheckRequest, say: Callable[[str], None]) -> Report:
    """Raises ImageError where there is nothing to check, or no engine to check it in."""
    say(f"reading {request.image}")
    image = read_image(request.image, layers=request.layers)
    roles = request.roles or roles_of(image)
    found = _Collected()
    found.rules += [rule.id for rule in table.STATIC]
    found.findings += apply(table.STATIC, Subject(image, roles), request.ignored)
    if image.files is None:
        found.notes.append("the rules about files: the layers were not read")
    if not request.try_it:
        found.notes.append("anything that needs a running container: --static")
    elif image.source != "engine":
        found.notes.append(
            f"anything that needs a running container: the image is in {_a(image.source)}; "
            "load or pull it into an engine and name it as there"
        )
    elif image.config.platform not in {"linux/amd64", "linux/"}:
        found.notes.append(f"anything that needs a running container: {image.config.platform}")
    else:
        if TRAIN in roles:
            _train(request, found, say)
        if SERVE in roles:
            _serve(request, found, dict(image.config.labels), say)
    return Report(
        image=request.image,
        source=image.source,
        digest=image.digest,
        roles=tuple(sorted(roles, reverse=True)),
        findings=tuple(found.findings),
        rules=tuple(found.rules),
        notes=tuple(found.notes),
        measured=found.measured,
    )


def _a(source: str) -> str:
    return f"an {source}" if source[0] in "aeiou" else f"a {source}"


def _train(request: CheckRequest, found: _Collected, say: Callable[[str], None]) -> None:
    trial = training.run(
        TrainingPlan(
            image=request.image,
            channels=request.channels,
            hyperparameters=request.hyperparameters,
            environment=request.environment,
            seconds=request.train_seconds,
        ),
        say,
    )
    found.rules += [rule.id for rule in table.TRAINING]
    found.findings += apply(table.TRAINING, trial, request.ignored)
    found.notes += _training_notes(trial)
    found.measured["train.seconds"] = round(trial.tiny.seconds, 2)
    found.measured["train.exit_code"] = trial.tiny.exit_code


def _training_notes(trial: TrainingTrial) -> list[str]:
    notes = []
    if not trial.tiny.refused and trial.tiny.exit_code is None:
        notes.append(
            "how a job ends: it ran on when its time was over; give it less to do with --hp, or "
            "more time with --train-timeout"
        )
    if trial.stop is not None and not trial.stop.running:
        notes.append("SIGTERM to a job: it ended too soon; give it more to do with --hp")
    if not trial.tiny.refused and trial.tiny.exit_code != 0:
        notes.append("several hosts: one alone does not complete the job")
    return notes


def _serve(
    request: CheckRequest,
    found: _Collected,
    labels: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    trial = serving.run(
        ServingPlan(
            image=request.image,
            model=request.model,
            payload=request.payload,
            content_type=request.content_type,
            environment=request.environment,
            labels=labels,
            seconds=request.startup_seconds,
        ),
        say,
    )
    found.rules += [rule.id for rule in table.SERVING]
    found.findings += apply(table.SERVING, trial, request.ignored)
    found.notes += _serving_notes(trial)
    found.measured["serve.healthy_after_seconds"] = _rounded(trial.healthy_after)
    if trial.load is not None:
        found.measured["serve.worst_ping_seconds"] = _rounded(trial.load.worst_ping)
        found.measured["serve.requests"] = trial.load.requests
    if trial.stop is not None:
        found.measured["serve.stop_seconds"] = _rounded(trial.stop.seconds)
        found.measured["serve.stop_exit_code"] = trial.stop.exit_code


def _serving_notes(trial: ServingTrial) -> list[str]:
    if trial.healthy_after is None:
        return ["requests to the endpoint: it is not healthy"]
    notes = []
    if trial.ruined is None:
        notes.append("whether /ping is true: give --model and --payload that the model answers")
    if not trial.with_payload and not trial.replies["plain"].works:
        notes.append("real requests: none of ours was understood; give --payload FILE")
    return notes


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
