"""A job of any kind: what its kind declares, its stages, and its record while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.lifecycle import clip
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.core.polling import Look, Subject
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.resources import (
    Kind,
    Refusal,
    Resources,
    name_in_use,
    no_such_job,
)
from sagemaker_byoc.region.wire.operations import Parameters

DEFAULT_RUNTIME = 86_400
"""Seconds (service model: StoppingCondition.MaxRuntimeInSeconds of training and processing)."""
MOST_HOSTS = 64
"""A limit of this region: the hosts of a job are processes of one machine."""


class Status(StrEnum):
    """The status of a job (service model: TrainingJobStatus, ProcessingJobStatus, …)."""

    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"

    @property
    def has_ended(self) -> bool:
        return self in {Status.COMPLETED, Status.FAILED, Status.STOPPED}


class Stage(StrEnum):
    """What a job is doing. A kind may note each in its documents."""

    STARTING = "starting"
    LAUNCHING = "launching"
    PREPARING = "preparing"
    DOWNLOADING = "downloading its input"
    PULLING = "pulling its image"
    RUNNING = "running"
    UPLOADING = "uploading its output"
    INTERRUPTED = "interrupted: its spot instances were taken away"
    STOPPING = "stopping"
    COMPLETED = "completed"
    STOPPED = "stopped"
    OUT_OF_RUNTIME = "stopped at MaxRuntimeInSeconds"
    OUT_OF_WAIT = "stopped at MaxWaitTimeInSeconds"
    FAILED = "failed"

    @property
    def status(self) -> Status | None:
        """The status that begins with the stage; None if it is the one before."""
        return _STATUSES.get(self)


_STATUSES = {
    Stage.STOPPING: Status.STOPPING,
    Stage.COMPLETED: Status.COMPLETED,
    Stage.STOPPED: Status.STOPPED,
    Stage.OUT_OF_RUNTIME: Status.STOPPED,
    Stage.OUT_OF_WAIT: Status.STOPPED,
    Stage.FAILED: Status.FAILED,
}
_AFTER_STOPPING = frozenset({Stage.UPLOADING, *_STATUSES})

Note = Callable[[Parameters, Stage, str, datetime], None]
"""Writes a stage, with a detail and its time, into a document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind(Kind):
    """A kind of job. Its documents have a status, and times of start and end."""

    page: int = 10
    order: str = "Ascending"
    missing: Refusal = no_such_job
    taken: Refusal = name_in_use
    group: str
    """The group of its logs: `/aws/sagemaker/TrainingJobs`."""
    times: str
    """The word of its times: `Training`, for TrainingStartTime and TrainingEndTime."""
    mark: str = ""
    """Begins the names of its containers, so that jobs of two kinds may have the same name. It ends
    in what no name of a job has, such as an underscore."""
    note: Note | None = None
    """None if its documents know only the status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job, as known before it runs."""

    kind: JobKind
    name: str
    request: Mapping[str, Any]
    context: RegionContext
    hosts: tuple[str, ...]

    @property
    def id(self) -> str:
        """Its name among all jobs of the region, of which the names of its containers are made."""
        return f"{self.kind.mark}{self.name}"

    @property
    def work(self) -> Path:
        """The folder for what it needs while it runs."""
        return self.context.work(self.kind.folder) / self.name

    @property
    def trees(self) -> dict[str, Tree]:
        return {host: Tree(self.work / host / "ml") for host in self.hosts}

    @property
    def role(self) -> str:
        return str(self.request.get("RoleArn", ""))


class JobRecord:
    """The document of a job while it runs. Thread-safe."""

    def __init__(self, name: str, resources: Resources, kind: JobKind) -> None:
        self.name = name
        self._resources = resources
        self._kind = kind

    @property
    def document(self) -> Parameters:
        return self._resources.get(self.name)

    @property
    def status(self) -> Status:
        return Status(self._resources.status(self.name))

    def enter(self, stage: Stage, detail: str = "", **members: Any) -> None:
        """Enter a stage, or change the detail of the current one; set `members`.

        A stopping job does not return to an earlier stage, and an ended job does not change.
        """
        kind, status = self._kind, stage.status
        if kind.note is None and status is None and not members:
            return

        def edit(document: Parameters) -> bool:
            before = Status(document[kind.status_member])
            if before.has_ended or (before is Status.STOPPING and stage not in _AFTER_STOPPING):
                return False
            if status is not None:
                document[kind.status_member] = status.value
            document.update(members)
            if kind.note is not None:
                kind.note(document, stage, detail, now())
            return True

        self._resources.change(self.name, edit)

    def begin_time(self) -> None:
        """Note when its instances have started, once, however often they are interrupted."""
        start = f"{self._kind.times}StartTime"

        def edit(document: Parameters) -> bool:
            return document.setdefault(start, time := now()) is time

        self._resources.change(self.name, edit)

    def fail(self, reason: str, **members: Any) -> None:
        self.enter(Stage.FAILED, FailureReason=clip(reason), **members)

    def flush(self) -> None:
        """Write what a full disk prevented from being written."""
        self._resources.records.flush()


def job_subject(member: str, look: Callable[[Parameters], Look] | None = None) -> Subject:
    """Return what a client that waits sees of a job: its status, or a `look` with more.

    `settle`: SDK 3 sleeps 5 s after each answer with a running job, however short the job is.
    `sdk_first`: after an answer with a running job, SDK 2 looks again 30 s later, and at the end of
    the job it sleeps 10 s more.
    """
    status = f"{member}Status"
    return Subject(
        look=look or (lambda document: (document[status],)),
        has_ended=lambda document: Status(document[status]).has_ended,
        hold=5.0,
        settle=2.0,
        sdk_first=45.0,
        sdk_hold=5.0,
    )
