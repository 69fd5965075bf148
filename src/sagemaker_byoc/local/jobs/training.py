"""One training job on this machine: tree → container → log → artifacts → verdict."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sagemaker_byoc.contract import archives, environment, lifecycle, limits
from sagemaker_byoc.contract.channels import Channel, check_channels, write_channels
from sagemaker_byoc.contract.cluster import Cluster
from sagemaker_byoc.contract.failure import read_failure
from sagemaker_byoc.contract.hyperparameters import Hyperparameters
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.local.engines.container import Container, ContainerSpec, Engine
from sagemaker_byoc.local.errors import LocalError, RequestError
from sagemaker_byoc.local.names import check_name

DEFAULT_IMAGE = "byoc-train"
_STOP_POLL = 0.2
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


class StopSwitch:
    """Asked to stop, from a signal handler or another thread, a running job ends with SIGTERM."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        self._asked.set()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def wait(self, timeout: float) -> bool:
        return self._asked.wait(timeout)


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
    try:
        spec = _lay_out(request, tree)
        started = time.monotonic()
        container = engine.start(spec)
        try:
            _follow(container, on_line, stop)
            code = container.wait()
            seconds = time.monotonic() - started
            container.collect()
        finally:
            container.close()
        return _verdict(request, tree, code, seconds, stopped=stop.asked)
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
    for folder in tree.written_by_training:
        folder.mkdir(parents=True)
    Hyperparameters(request.hyperparameters).write(tree)
    write_channels(tree, {name: Channel(name) for name in request.channels})
    Cluster().write(tree)
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


def _follow(container: Container, on_line: Callable[[str], None], stop: StopSwitch) -> None:
    """Relay the log to its end; a stop is carried out from a thread beside it."""
    ended = threading.Event()

    def stopper() -> None:
        while not ended.is_set():
            if stop.wait(timeout=_STOP_POLL):
                try:
                    container.stop(lifecycle.TRAIN_STOP_GRACE.value)
                except LocalError as error:
                    on_line(f"byoc: the job could not be stopped: {error}")
                return

    thread = threading.Thread(target=stopper, daemon=True)
    thread.start()
    try:
        for line in container.lines():
            on_line(line)
    finally:
        ended.set()
        thread.join()


def _verdict(
    request: TrainingRequest, tree: Tree, code: int, seconds: float, *, stopped: bool
) -> TrainingResult:
    model = request.output / archives.MODEL_ARCHIVE
    output = request.output / archives.OUTPUT_ARCHIVE
    reason = None
    if code == 0:
        status = Status.STOPPED if stopped else Status.COMPLETED
    else:
        status = Status.STOPPED if stopped else Status.FAILED
        reason = f"AlgorithmError: {read_failure(tree) or 'no failure file'}, exit code: {code}"
    return TrainingResult(
        status=status,
        exit_code=code,
        failure_reason=None if reason is None else reason[: limits.FAILURE_REASON.value],
        model=model if archives.pack(tree.model, model) else None,
        output=output if archives.pack(tree.output_data, output) else None,
        seconds=seconds,
    )
