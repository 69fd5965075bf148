"""The jobs of one kind: the operations on them, those that run, and those that a kill has left."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.errors import ByocError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.containers.hosts import Why
from sagemaker_byoc.region.containers.specs import JOB_LABEL
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.jobs.containers import INTERNAL
from sagemaker_byoc.region.services.sagemaker.jobs.job import (
    JobKind,
    JobRecord,
    Stage,
    Status,
)
from sagemaker_byoc.region.services.sagemaker.jobs.job_run import JobRun
from sagemaker_byoc.region.services.sagemaker.resources import invalid
from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters

Run = TypeVar("Run", bound=JobRun)

LOG = logging.getLogger(__name__)

MOST_ALIVE = 100
"""Jobs of a kind at one time; each has threads and processes of this machine."""
_ENDING_SECONDS = 10.0
CLOSING_SECONDS = 140.0
"""The 120 s that a container has to save its results, and time for their upload."""


class Jobs(ABC, Generic[Run]):
    """Jobs of one kind. `start` and `close` are called once, on the thread of the event loop."""

    def __init__(self, context: RegionContext, kind: JobKind) -> None:
        self.kind = kind
        self.resources = context.resources(kind)
        self._context = context
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()

    @abstractmethod
    def _prepare(self, request: Parameters) -> tuple[Parameters, Run]:
        """Return the document of the requested job, and its run. Raise AwsError to refuse it."""

    def operations(self) -> Operations:
        member = self.kind.member
        found = {
            **self.resources.operations(),
            f"Create{member}": self._create,
            f"Stop{member}": self._stop,
            f"Delete{member}": self._delete,
        }
        known = models.service_model("sagemaker").operation_names  # not every kind can be deleted
        return {name: run for name, run in found.items() if name in known}

    def start(self) -> None:
        """Mark jobs that ran when the region was killed as failed, and remove what they left.

        AWS gives the same reason for a job whose instance died: InternalServerError.
        """
        self.resources.start()
        for name in [each for each in self.resources.records if not self.resources.has_ended(each)]:
            try:
                self._sweep(name)
            except ByocError:
                LOG.exception("what the lost job %s left could not be removed", name)
            self._record(name).fail(INTERNAL, **self._end_time(name))
        folders.remove(self._context.work(self.kind.folder))

    def _end_time(self, name: str) -> dict[str, datetime]:
        times = self.kind.times
        return {f"{times}EndTime": now()} if f"{times}StartTime" in self.resources.get(name) else {}

    async def close(self) -> None:
        """Stop all jobs as their Stop operation would, and wait for them, for a limited time."""
        runs = [*self._runs.values()]
        for run in runs:
            self._ask(run, Why.CLOSING)
        await asyncio.to_thread(_join, runs, CLOSING_SECONDS)
        self.resources.records.flush()

    def _create(self, request: Parameters) -> Parameters:
        name = request[self.kind.name_member]
        self.resources.refuse_taken(name)
        document, run = self._prepare(request)
        with self._lock:
            if len(self._runs) >= MOST_ALIVE:
                raise AwsError(
                    "ResourceLimitExceeded",
                    f"The region runs {MOST_ALIVE} {self.kind.noun}s at a time. Wait for one to "
                    "end",
                )
            self.resources.refuse_taken(name)
            self._runs[name] = run  # first: who sees the document may stop the job at once
            try:
                self.resources.add(name, document, request.get("Tags") or ())
            except BaseException:
                del self._runs[name]
                raise
        try:
            run.start()
        except BaseException:
            self._forget(name)
            self.resources.remove(name)
            raise
        self.resources.expect(name)
        return {self.kind.arn_member: self.resources.arn(name)}

    async def _stop(self, request: Parameters) -> Parameters:
        name = request[self.kind.name_member]
        ended = self.resources.has_ended(name)
        run = self._runs.get(name)
        if ended or run is None:
            raise self._rejected(name)
        await asyncio.to_thread(self._ask, run, Why.STOP)
        return {}

    async def _delete(self, request: Parameters) -> Parameters:
        name = request[self.kind.name_member]
        status = Status(self.resources.status(name))
        run = self._runs.get(name)
        if not status.has_ended:
            raise AwsError(
                "ResourceInUse",
                f"The {self.kind.noun} {self.resources.arn(name)} is in status {status.value}. "
                "Only jobs that have ended can be deleted.",
            )
        if run is not None:
            # Its end is public a moment before its thread has ended, and its log is closed.
            await asyncio.to_thread(run.join, _ENDING_SECONDS)
        if status is Status.FAILED:
            await asyncio.to_thread(self._remove_kept, name)
        self.resources.remove(name)
        return {}

    def _rejected(self, name: str) -> AwsError:
        return invalid(
            f"The request was rejected because the {self.kind.noun} is in status "
            f"{self.resources.status(name)}."
        )

    def _remove_kept(self, name: str) -> None:
        """Remove the containers that a failure has kept, if the engine answers."""
        try:
            self._sweep(name)
        except ByocError as error:
            LOG.warning("what was kept of %s is still there: %s", name, error)

    def _sweep(self, name: str) -> None:
        """Remove what is left of a job. Raise ByocError."""
        trees = self._trees(self._context.work(self.kind.folder) / name)
        label = {JOB_LABEL: f"{self.kind.mark}{name}"}
        self._context.engine.sweep({**self._context.labels, **label}, trees)

    def _trees(self, work: Path) -> list[Tree]:
        """Return the trees of the job's containers, which are below its folder `work`."""
        return [Tree(host / "ml") for host in work.glob("algo-*")]

    def _ask(self, run: JobRun, why: Why) -> None:
        # The status first: a job that is interrupted at this moment must not start again.
        self._record(run.job.name).enter(Stage.STOPPING)
        run.stop(why)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._runs.pop(name, None)

    def _record(self, name: str) -> JobRecord:
        return JobRecord(name, self.resources, self.kind)


def _join(runs: Sequence[JobRun], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for run in runs:
        run.join(max(0.0, deadline - time.monotonic()))
