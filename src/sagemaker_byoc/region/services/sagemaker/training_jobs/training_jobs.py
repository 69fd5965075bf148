"""Training jobs of the region: the API operations, and the jobs that run."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.errors import ByocError, ContractError
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters
from sagemaker_byoc.region.containers.hosts import Why
from sagemaker_byoc.region.containers.specs import JOB_LABEL
from sagemaker_byoc.region.services.sagemaker.catalog import list_page
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.jobs import inputs
from sagemaker_byoc.region.services.sagemaker.jobs.containers import INTERNAL, JobLog
from sagemaker_byoc.region.services.sagemaker.training_jobs import metric_collector
from sagemaker_byoc.region.services.sagemaker.training_jobs.layout import GROUP, KIND, Job
from sagemaker_byoc.region.services.sagemaker.training_jobs.plan import (
    JobPlan,
    check_names,
    plan_of,
    refuse,
)
from sagemaker_byoc.region.services.sagemaker.training_jobs.record import (
    SUBJECT,
    Document,
    JobRecord,
    Secondary,
    Status,
    new_document,
)
from sagemaker_byoc.region.services.sagemaker.training_jobs.runner import JobRun
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters, not_found

LOG = logging.getLogger(__name__)

PAGE = 10
"""Jobs on a page if the request does not say how many."""
_SUMMARY = (
    "TrainingJobName",
    "TrainingJobArn",
    "CreationTime",
    "TrainingEndTime",
    "LastModifiedTime",
    "TrainingJobStatus",
    "SecondaryStatus",
)
MOST_ALIVE = 100
"""Jobs at one time; each has threads and processes of this machine."""
CLEARING_SECONDS = 60.0
CLOSING_SECONDS = 140.0
"""The 120 s that a container has to save its model, and time for its upload."""


class TrainingJobs:
    """`start` and `close` are called once, on the thread of the event loop."""

    def __init__(self, context: RegionContext) -> None:
        self._context = context
        self._records = context.records(KIND)
        self._watch = context.holds.watch(SUBJECT)
        self._runs: dict[str, JobRun] = {}
        self._lock = threading.Lock()

    def operations(self) -> Operations:
        return {
            "CreateTrainingJob": self._create,
            "DescribeTrainingJob": self._describe,
            "StopTrainingJob": self._stop,
            "ListTrainingJobs": self._list,
            "DeleteTrainingJob": self._delete,
        }

    def start(self) -> None:
        """Mark jobs that ran when the region was killed as failed, and remove what they left.

        AWS gives the same reason for a job whose instance died: InternalServerError.
        """
        self._watch.start()
        lost = [name for name in self._records if not self._record(name).status.has_ended]
        for name in lost:
            try:
                self._sweep(name)
            except ByocError:
                LOG.exception("what the lost job %s left could not be removed", name)
            self._record(name).fail(INTERNAL)
        folders.remove(self._context.work(KIND))

    async def close(self) -> None:
        """Stop all jobs as StopTrainingJob would, and wait for them, for a limited time."""
        runs = [*self._runs.values()]
        for run in runs:
            self._ask(run, Why.CLOSING)
        await asyncio.to_thread(_join, runs, CLOSING_SECONDS)
        self._records.flush()

    def interrupt(self, name: str, *, kill: bool = False) -> None:
        """Interrupt a job as the spot market does; with `kill`, without SIGTERM.

        Raise AwsError unless the job runs on spot instances.
        """
        document = self._document(name)
        run = self._runs.get(name)
        if not document.get("EnableManagedSpotTraining"):
            raise refuse(
                f"{name} is not a managed spot training job: EnableManagedSpotTraining is not set"
            )
        if run is None or document["TrainingJobStatus"] != Status.IN_PROGRESS.value:
            raise _rejected(document)
        run.interrupt(kill=kill)

    def _create(self, request: Parameters) -> Parameters:
        check_names(request)
        name = request["TrainingJobName"]
        arn = self._context.account.arn("sagemaker", f"training-job/{name}")
        if name in self._records:
            raise _in_use(arn)
        plan = plan_of(request)
        definitions = metric_collector.compile_definitions(plan.metrics)
        _check_values(plan)
        image = self._context.images.resolve(plan.image)
        self._check_storage(plan)
        record = JobRecord(name, self._records, self._watch.announce)
        run = JobRun(
            Job(plan=plan, image=image, arn=arn, request=request, context=self._context),
            record,
            JobLog(self._context.logs, GROUP, name, plan.hosts[0]),
            metric_collector.MetricCollector(definitions),
            on_end=self._forget,
        )
        with self._lock:
            if len(self._runs) >= MOST_ALIVE:
                raise AwsError(
                    "ResourceLimitExceeded",
                    f"The region runs {MOST_ALIVE} training jobs at a time. Wait for one to end",
                )
            if not self._records.add(name, new_document(request, arn, plan.model_uri)):
                raise _in_use(arn)
            self._runs[name] = run
        try:
            self._context.tags.add(arn, request.get("Tags") or ())
            run.start()
        except BaseException:
            self._forget(name)
            self._records.remove(name)
            raise
        self._watch.expect(name)
        return {"TrainingJobArn": arn}

    def _check_storage(self, plan: JobPlan) -> None:
        store = self._context.store
        wanted = {"OutputDataConfig.S3OutputPath": plan.output_bucket}
        if plan.checkpoint is not None:
            wanted["CheckpointConfig.S3Uri"] = plan.checkpoint.bucket
        for where, bucket in wanted.items():
            if not store.has_bucket(bucket):
                raise refuse(f"{where}: there is no bucket {bucket!r}. Create it first")
        for channel in plan.channels:
            try:
                inputs.require_items(store, channel)
            except inputs.DownloadError:
                continue  # the download reports it, as in the cloud

    async def _describe(self, parameters: Parameters) -> Parameters:
        name = parameters["TrainingJobName"]
        return await self._watch.see(name, lambda: self._document(name))

    async def _stop(self, parameters: Parameters) -> Parameters:
        document = self._document(parameters["TrainingJobName"])
        run = self._runs.get(document["TrainingJobName"])
        if Status(document["TrainingJobStatus"]).has_ended or run is None:
            raise _rejected(document)
        await asyncio.to_thread(self._ask, run, Why.STOP)
        return {}

    async def _list(self, parameters: Parameters) -> Parameters:
        documents = [d for name in self._records if (d := self._records.get(name)) is not None]
        if parameters.get("WarmPoolStatusEquals") or parameters.get("TrainingPlanArnEquals"):
            documents = []  # no job of this region has one
        return list_page(
            documents,
            parameters,
            items="TrainingJobSummaries",
            members=_SUMMARY,
            name="TrainingJobName",
            status="TrainingJobStatus",
            size=PAGE,
            order="Ascending",
        )

    async def _delete(self, parameters: Parameters) -> Parameters:
        document = self._document(parameters["TrainingJobName"])
        name = document["TrainingJobName"]
        run = self._runs.get(name)
        if not Status(document["TrainingJobStatus"]).has_ended:
            raise AwsError(
                "ResourceInUse",
                f"The training job {document['TrainingJobArn']} is in status "
                f"{document['TrainingJobStatus']}. Only jobs that have ended can be deleted.",
            )
        if run is not None:
            # Its end is public while it cleans up; a new job may take its name and its folder.
            await asyncio.to_thread(run.join, CLEARING_SECONDS)
        if document["TrainingJobStatus"] == Status.FAILED.value:
            await asyncio.to_thread(self._remove_kept, name)
        self._records.remove(name)
        self._context.tags.forget(document["TrainingJobArn"])
        return {}

    def _remove_kept(self, name: str) -> None:
        """Remove the containers that a failure has kept, if the engine answers."""
        try:
            self._sweep(name)
        except ByocError as error:
            LOG.warning("what was kept of %s is still there: %s", name, error)

    def _sweep(self, name: str) -> None:
        """Remove what is left of a job. Raise ByocError."""
        trees = [Tree(host / "ml") for host in self._folders(name)]
        self._context.engine.sweep({**self._context.labels, JOB_LABEL: name}, trees)

    def _ask(self, run: JobRun, why: Why) -> None:
        # The status first: a job that is interrupted at this moment must not start again.
        self._record(run.job_name).enter(
            Secondary.STOPPING, "Stopping the training job", Status.STOPPING
        )
        run.stop(why)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._runs.pop(name, None)

    def _record(self, name: str) -> JobRecord:
        return JobRecord(name, self._records, self._watch.announce)

    def _document(self, name: str) -> Document:
        document: dict[str, Any] | None = self._records.get(name)
        if document is None:
            raise not_found("Requested resource not found.")
        return document

    def _folders(self, name: str) -> list[Path]:
        return [*(self._context.work(KIND) / name).glob("algo-*")]


def _in_use(arn: str) -> AwsError:
    return AwsError(
        "ResourceInUse",
        "Training job names must be unique within an AWS account and region, and a training job "
        f"with this name already exists ({arn})",
    )


def _rejected(document: Document) -> AwsError:
    return refuse(
        "The request was rejected because the training job is in status "
        f"{document['TrainingJobStatus']}."
    )


def _check_values(plan: JobPlan) -> None:
    try:
        Hyperparameters(plan.hyperparameters).check()
    except ContractError as error:
        raise refuse(f"{error.where}: {error.what}. {error.hint}") from error


def _join(runs: Sequence[JobRun], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for run in runs:
        run.join(max(0.0, deadline - time.monotonic()))
