"""One training job of the region: spot instances, metrics, the model and what reports left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from sagemaker_byoc.contract import archives, folders
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.region.containers.hosts import (
    StopSwitch,
    Why,
    merged,
    noting_links,
    sources,
)
from sagemaker_byoc.region.services.sagemaker.jobs import outputs
from sagemaker_byoc.region.services.sagemaker.jobs.job import JobRecord, Stage, Status
from sagemaker_byoc.region.services.sagemaker.jobs.job_run import (
    ContainersRun,
    Found,
    Layout,
    Needs,
)
from sagemaker_byoc.region.services.sagemaker.training_jobs.layout import TrainingJob, lay_out
from sagemaker_byoc.region.services.sagemaker.training_jobs.metric_collector import (
    MetricCollector,
)
from sagemaker_byoc.region.services.sagemaker.training_jobs.plan import MODEL_FOLDER
from sagemaker_byoc.region.wire.operations import AwsError


class TrainingRun(ContainersRun):
    """The thread of one training job."""

    def __init__(
        self,
        job: TrainingJob,
        metrics: MetricCollector,
        record: JobRecord,
        on_end: Callable[[str], None],
    ) -> None:
        plan = job.plan
        needs = Needs(
            image=job.image,
            instance_types=[group.instance_type for group in plan.groups],
            channels=plan.channels,
            synced=[] if plan.checkpoint is None else [plan.checkpoint],
            max_runtime=plan.max_runtime,
        )
        super().__init__(job, needs, record, on_end)
        self._training = job
        self._plan = plan
        self._metrics = metrics
        self._created = time.monotonic()
        self._bare_kill = False

    def interrupt(self, *, kill: bool) -> None:
        """Take the instances away: with SIGTERM and its 120 s, or at once."""
        self._bare_kill = kill
        self.switch.ask(Why.INTERRUPTED)

    def _run(self) -> Callable[[], None]:
        while True:
            outcome = self._attempt()
            ended_by_itself = outcome is not None and not outcome.stopped
            if ended_by_itself or self.switch.why is not Why.INTERRUPTED:
                return self._finish(outcome)
            self._containers.close()
            self._record.enter(Stage.INTERRUPTED)
            self.switch = StopSwitch()
            if self._record.status is Status.STOPPING:
                self.switch.ask()

    def _limits(self) -> Iterator[tuple[float, Why]]:
        yield from super()._limits()
        if self._plan.max_wait is not None:
            yield self._plan.max_wait - (time.monotonic() - self._created), Why.WAIT

    def _grace(self) -> float:
        bare = self.switch.why is Why.INTERRUPTED and self._bare_kill
        return 0.0 if bare else super()._grace()

    def _lay_out(self, found: Found) -> Layout:
        return lay_out(self._training, found, is_stopped=lambda: self.switch.asked)

    def _see(self, line: str) -> None:
        self._metrics.see(line)

    def _members(self) -> dict[str, Any]:
        for sentence in self._metrics.warnings():
            self._log.say(f"byoc: {sentence}")
        last = self._metrics.last
        return {
            "FinalMetricDataList": [
                {"MetricName": name, "Value": value.value, "Timestamp": value.time}
                for name, value in last.items()
            ]
        } if last else {}  # fmt: skip

    def _times(self, ended: datetime | None = None) -> dict[str, Any]:
        times = super()._times(ended)
        if times:
            started = self._record.document["TrainingStartTime"]
            lasted = (times["TrainingEndTime"] - started).total_seconds()
            times["TrainingTimeInSeconds"] = max(1, round(lasted))
            times["BillableTimeInSeconds"] = max(1, round(min(lasted, self._used)))
        return times

    # ── the results ──

    def _send(self, trees: Mapping[str, Tree]) -> None:
        warn = self._log.say_once
        try:
            if not self._send_artifacts(trees, warn):
                warn(f"/opt/ml/model was left empty: there is nothing at {self._plan.model_uri}")
        finally:
            self._send_reports(trees)

    def _send_reports(self, trees: Mapping[str, Tree]) -> None:
        warn = self._log.say_once
        try:
            outputs.upload_reports(self._plan.reports, trees, self._context.store, warn)
        except (AwsError, OSError) as error:  # the training has not failed for that
            warn(f"what was written for Debugger or TensorBoard is not in S3: {error}")

    def _send_artifacts(self, trees: Mapping[str, Tree], warn: folders.OnLeft) -> bool:
        """Send model and output data; return False if there is no model. Raise S3Error, OSError."""
        plan = self._plan
        data = merged(sources(trees, "output/data"), warn, keep_links=True)
        self._send_archive(archives.OUTPUT_ARCHIVE, data)
        found = sources(trees, "model")
        if not plan.compress:
            key = plan.output_key(MODEL_FOLDER)
            files = merged(found, warn)
            return outputs.send_all(self._context.store, plan.output_bucket, key, files, warn)
        entries = merged(found, warn, keep_links=True)
        entries = noting_links(entries, archives.MODEL_ARCHIVE, warn)
        return self._send_archive(archives.MODEL_ARCHIVE, entries)

    def _send_archive(self, name: str, entries: Iterable[folders.Entry]) -> bool:
        bucket, key = self._plan.output_bucket, self._plan.output_key(name)
        return outputs.send_archive(self._context.store, bucket, key, entries, self.job.work / name)
