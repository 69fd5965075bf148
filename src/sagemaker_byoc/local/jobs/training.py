"""One training job of `byoc train`: folders in, archives out, no region around it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sagemaker_byoc.contract import archives, environment, lifecycle
from sagemaker_byoc.contract.channels import Channel, check_channels
from sagemaker_byoc.contract.cluster import DEFAULT_HOST, Cluster
from sagemaker_byoc.contract.hyperparameters import Hyperparameters
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.local.engines.container import ContainerSpec, Engine
from sagemaker_byoc.local.errors import RequestError
from sagemaker_byoc.local.jobs.control import StopSwitch
from sagemaker_byoc.local.jobs.hosts import Hosts, Outcome
from sagemaker_byoc.local.jobs.stage import write_config
from sagemaker_byoc.local.jobs.verdict import failure_reason
from sagemaker_byoc.local.names import check_name

__all__ = [
    "DEFAULT_IMAGE",
    "Status",
    "StopSwitch",
    "TrainingRequest",
    "TrainingResult",
    "run_training_job",
]

DEFAULT_IMAGE = "byoc-train"
_ACCOUNT_ARN = "arn:aws:sagemaker:local:000000000000:training-job/"


class Status(StrEnum):
    """TrainingJobStatus of a job that has ended."""

    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """What a user asks for. Hyperparameters are raw strings, as SageMaker passes them on."""

    name: str
    output: Path
    program: Path | None = None
    entry_point: str | None = None
    image: str = DEFAULT_IMAGE
    channels: Mapping[str, Path]
    hyperparameters: Mapping[str, str]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    status: Status
    exit_code: int
    """Of the container; 0 for a completed job."""
    failure_reason: str | None
    model: Path | None
    """model.tar.gz; None where /opt/ml/model was left empty."""
    output: Path | None
    """output.tar.gz; None where /opt/ml/output/data was left empty."""
    seconds: float
    """From the container's start to its end."""


def run_training_job(
    request: TrainingRequest, engine: Engine, on_line: Callable[[str], None], stop: StopSwitch
) -> TrainingResult:
    """Run `request` to its end; `on_line` gets each line of its log.

    Raises RequestError for what SageMaker would refuse, MachineError where the engine can't.
    The artifacts lie in `request.output` as SageMaker would put them into S3.
    """
    check(request)
    work = request.output / ".work"
    tree = Tree(work)
    hosts = Hosts()

    def on_host_line(_host: str, line: str) -> None:
        on_line(line)

    try:
        hosts.start(engine, {DEFAULT_HOST: _lay_out(request, tree)}, on_host_line)
        try:
            outcome = hosts.wait(stop, on_host_line, lambda: lifecycle.TRAIN_STOP_GRACE.value)
            hosts.containers[DEFAULT_HOST].collect()
        finally:
            hosts.close()
        return _verdict(request, tree, outcome)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):  # which it is where there are artifacts
            request.output.rmdir()


def check(request: TrainingRequest) -> None:
    """Refuse what CreateTrainingJob would refuse, and folders that are not there."""
    check_name("job", request.name)
    folders = {f"channel {name!r}": folder for name, folder in request.channels.items()}
    if request.program is not None:
        folders["the program"] = request.program
    Hyperparameters(request.hyperparameters).check()
    check_channels({name: Channel(name) for name in request.channels})
    for what, folder in folders.items():
        if not folder.is_dir():
            raise RequestError(f"{what}: there is no folder {folder}", cure="Check the path")


def _lay_out(request: TrainingRequest, tree: Tree) -> ContainerSpec:
    shutil.rmtree(tree.root, ignore_errors=True)
    write_config(
        tree,
        hyperparameters=request.hyperparameters,
        channels=[Channel(name) for name in request.channels],
        cluster=Cluster(),
    )
    return ContainerSpec(
        name=f"byoc-{request.name}-algo-1",
        argument=lifecycle.TRAIN_ARGUMENT.value,
        tree=tree,
        environment={**_platform(request), **request.environment},
        image=request.image,
        program=request.program,
        inputs={
            str(tree.channel(name).relative_to(tree.root)): folder
            for name, folder in request.channels.items()
        },
        outputs=("model", "output"),
    )


def _platform(request: TrainingRequest) -> dict[str, str]:
    """What SageMaker itself sets."""
    variables = {
        environment.TRAINING_JOB_NAME: request.name,
        environment.TRAINING_JOB_ARN: _ACCOUNT_ARN + request.name,
    }
    if request.entry_point is not None:
        variables[environment.PROGRAM] = request.entry_point
    return variables


def _verdict(request: TrainingRequest, tree: Tree, outcome: Outcome) -> TrainingResult:
    model = request.output / archives.MODEL_ARCHIVE
    output = request.output / archives.OUTPUT_ARCHIVE
    code = outcome.codes[DEFAULT_HOST]
    ended = Status.FAILED if code else Status.COMPLETED
    return TrainingResult(
        status=Status.STOPPED if outcome.stopped else ended,
        exit_code=code,
        failure_reason=failure_reason(tree, code) if code else None,
        model=model if archives.pack(tree.model, model) else None,
        output=output if archives.pack(tree.output_data, output) else None,
        seconds=outcome.seconds,
    )
