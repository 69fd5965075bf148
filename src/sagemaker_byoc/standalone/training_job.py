"""One training job of `byoc train`: folders in, archives and a record out, without a region."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from sagemaker_byoc.contract import archives, folders, lifecycle
from sagemaker_byoc.contract.errors import ByocError, MachineError, RequestError
from sagemaker_byoc.contract.folders import OnLeft
from sagemaker_byoc.contract.masking import MASK, is_secret
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel, check_channels
from sagemaker_byoc.contract.training.cluster import DEFAULT_HOST, Cluster
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters, as_text
from sagemaker_byoc.contract.training.runs import METRICS_FILE, RUN_FILE, RunRecord, parse_line
from sagemaker_byoc.contract.variables import CODE_COMMIT, CODE_REPOSITORY, PROGRAM
from sagemaker_byoc.host import owners
from sagemaker_byoc.region.containers import specs
from sagemaker_byoc.region.containers.hosts import (
    Hosts,
    Outcome,
    StopSwitch,
    failure_reason,
    noting_links,
)
from sagemaker_byoc.region.containers.specs import (
    Image,
    check_name,
    write_config,
    write_more_config,
)
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.engines.container import ContainerSpec, Engine, Network
from sagemaker_byoc.region.engines.copying import Copying, counted, size_of

__all__ = [
    "DEFAULT_IMAGE",
    "Status",
    "StopSwitch",
    "TrainingRequest",
    "TrainingResult",
    "run_training_job",
]

DEFAULT_IMAGE = "byoc-train"


class Status(StrEnum):
    """TrainingJobStatus of a job that has ended."""

    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """A user's request. Hyperparameters are raw strings, as SageMaker passes them."""

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
    """The container's; 0 for a completed job."""
    failure_reason: str | None
    model: Path | None
    """model.tar.gz; None if /opt/ml/model is empty."""
    output: Path | None
    """output.tar.gz; None if /opt/ml/output/data is empty."""
    seconds: float
    """From the container's start to its end."""


def run_training_job(
    request: TrainingRequest,
    engine: Engine,
    on_line: Callable[[str], None],
    stop: StopSwitch,
    copying: Copying | None = None,
) -> TrainingResult:
    """Run `request`; `on_line` receives the lines of its log, `copying` the progress of packing.

    Raise RequestError for what SageMaker would refuse, MachineError if the engine fails.
    The artifacts are in `request.output`, as SageMaker would put them into S3.
    """
    hosts = Hosts()

    def on_left(sentence: str) -> None:
        on_line(f"byoc: {sentence}")

    def on_host_line(_host: str, line: str) -> None:
        on_line(line)

    with prepared_job(request, engine) as spec:
        try:
            hosts.start(engine, {DEFAULT_HOST: spec}, on_host_line, lambda: stop.asked)
            outcome = hosts.wait(stop, lambda: lifecycle.TRAIN_STOP_GRACE.value)
            _collect(hosts, outcome, on_left)
            # The container stays until its results are in place.
            return _verdict(request, spec.tree, outcome, on_left, copying)
        except OSError as error:
            raise _unwritten(request, error, hosts.keep()) from error
        finally:
            hosts.close()


@contextmanager
def prepared_job(request: TrainingRequest, engine: Engine) -> Iterator[ContainerSpec]:
    """Yield the specification of the job's container; remove its tree and network at the end.

    Raise RequestError for what SageMaker would refuse.
    """
    check(request)
    work = request.output / ".work"
    network = specs.job_network(
        f"byoc-{request.name}",
        request.name,
        (DEFAULT_HOST,),
        labels={owners.LABEL: owners.me()},
    )
    try:
        engine.open_network(network)
        yield _lay_out(request, Tree(work / "ml"), engine, network)
    except OSError as error:
        raise _unwritten(request, error) from error
    finally:
        engine.close_network(network)
        folders.remove(work)
        _remove_if_empty(request.output)


def _unwritten(request: TrainingRequest, error: OSError, kept: str = "") -> MachineError:
    is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    hint = f"Make room for {request.output}" if is_full else "Choose another --output"
    return MachineError(f"the job's files can't be written: {error}", hint=kept or hint)


def _collect(hosts: Hosts, outcome: Outcome, on_left: OnLeft) -> None:
    """Raise MachineError, keeping the container, if the results can't be copied."""
    try:
        if DEFAULT_HOST in outcome.lost:
            why = outcome.lost[DEFAULT_HOST]
            raise MachineError(f"the container was lost: {why}", hint="Check the engine")
        hosts.containers[DEFAULT_HOST].collect(on_left)
    except (ByocError, OSError) as error:
        kept = hosts.keep() or "Check that the disk has room"
        what = error.sentence if isinstance(error, ByocError) else str(error)
        raise MachineError(f"the results can't be copied: {what}", hint=kept) from error


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
            raise


def check(request: TrainingRequest) -> None:
    """Raise RequestError for what CreateTrainingJob would refuse, or a missing folder."""
    check_name("job", request.name)
    folders = {f"channel {name!r}": folder for name, folder in request.channels.items()}
    if request.program is not None:
        folders["the program"] = request.program
    Hyperparameters(request.hyperparameters).check()
    check_channels({name: Channel(name) for name in request.channels})
    for what, folder in folders.items():
        if folder.is_file():
            hint = f"Name the folder that holds it: {folder.parent}"
            raise RequestError(f"{what}: {folder} is a file", hint=hint)
        if not folder.is_dir():
            raise RequestError(f"{what}: there is no folder {folder}", hint="Check the path")
    if os.path.lexists(request.output) and not request.output.is_dir():
        what = f"--output: {request.output} is not a folder"
        raise RequestError(what, hint="Choose another")


def _lay_out(
    request: TrainingRequest, tree: Tree, engine: Engine, network: Network
) -> ContainerSpec:
    folders.remove(tree.root.parent)
    cluster = Cluster(network_interface=engine.interface)
    write_config(
        tree,
        hyperparameters=request.hyperparameters,
        channels=[Channel(name) for name in request.channels],
        cluster=cluster,
    )
    write_more_config(tree, {})
    entry = {} if request.entry_point is None else {PROGRAM: request.entry_point}
    common = specs.training(
        job=request.name,
        account=Account.from_environ(os.environ),
        image=Image.without_region(request.image),
        tree=tree,
        cluster=cluster,
        network=network,
        variables={**entry, **request.environment},
    )
    inputs = {
        str(tree.channel(name).relative_to(tree.root)): folder
        for name, folder in request.channels.items()
    }
    return replace(common, program=request.program, inputs=inputs)


def _verdict(
    request: TrainingRequest,
    tree: Tree,
    outcome: Outcome,
    on_left: OnLeft,
    copying: Copying | None,
) -> TrainingResult:
    code = outcome.codes[DEFAULT_HOST]
    ended = Status.FAILED if code else Status.COMPLETED
    return TrainingResult(
        status=Status.STOPPED if outcome.stopped else ended,
        exit_code=code,
        failure_reason=failure_reason(tree, code, on_left) if code else None,
        model=_pack(tree, "model", request.output / archives.MODEL_ARCHIVE, on_left, copying),
        output=_pack(
            tree, "output/data", request.output / archives.OUTPUT_ARCHIVE, on_left, copying
        ),
        seconds=outcome.seconds,
    )


def _pack(
    tree: Tree, folder: str, archive: Path, on_left: OnLeft, copying: Copying | None
) -> Path | None:
    entries = noting_links(
        folders.walk(tree.root, folder, on_left, keep_links=True), archive.name, on_left
    )
    title = f"pack {archive.name}"
    with counted(copying, title, lambda: size_of(tree.root / folder)) as on_bytes:
        return archive if archives.pack_entries(entries, archive, on_bytes) else None


# ── what the output folder keeps for `byoc runs`: the log, the metrics of its lines, a record ──

LOG_FILE = "train.log"
MOST_CHARACTERS = 64 << 20
"""Most characters that are kept, of the log and of the metrics each."""
SEARCHED = 2048
"""Characters of a line that are searched for metrics."""


class Transcript:
    """The log, and the metrics of its lines as a program that tracks them writes them.

    Files are opened by the first line: a refused job leaves none. A full disk
    does not end the job; `problem` then says what is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.log = folder / LOG_FILE
        self.problem = ""
        self._metrics = folder / METRICS_FILE
        self._files: dict[Path, TextIO] = {}
        self._left = dict.fromkeys((self.log, self._metrics), MOST_CHARACTERS)

    def write(self, line: str) -> None:
        self._write(self.log, line)
        if values := parse_line(line[:SEARCHED]):
            self._write(self._metrics, json.dumps(values))

    def close(self) -> None:
        for file in self._files.values():
            with suppress(OSError):
                file.close()
        self._files.clear()
        with suppress(OSError):
            if not self._metrics.stat().st_size:
                self._metrics.unlink()

    def _write(self, path: Path, line: str) -> None:
        if self.problem:
            return
        try:
            if not self._files:
                self._open()
            if self._left[path] > 0:
                self._left[path] -= len(line) + 1
                is_full = self._left[path] <= 0
                self._files[path].write("… the rest was not kept\n" if is_full else f"{line}\n")
        except OSError as error:
            self.problem = f"{path}: {error.strerror}"

    def _open(self) -> None:
        """Open both files, replacing those of an earlier job."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        for path in self._left:
            self._files[path] = open(  # noqa: SIM115 - closed by `close`
                path, "w", encoding="utf-8", errors="backslashreplace", buffering=1
            )


def write_record(request: TrainingRequest, result: TrainingResult) -> None:
    """Write beside the artifacts what `byoc runs` shows of a program that tracks nothing."""
    given, ended = Hyperparameters(request.hyperparameters).for_program(), time.time()
    record = RunRecord(
        name=request.name,
        status=result.status.value,
        started=ended - result.seconds,
        ended=ended,
        parameters={key: MASK if is_secret(key) else as_text(raw) for key, raw in given},
        commit=request.environment.get(CODE_COMMIT, ""),
        repository=request.environment.get(CODE_REPOSITORY, ""),
    )
    record.write(request.output / RUN_FILE)
