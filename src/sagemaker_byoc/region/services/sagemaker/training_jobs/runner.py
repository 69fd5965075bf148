"""One training job of the region, from its first status to its last, in a thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial

from sagemaker_byoc.contract import archives, folders, lifecycle
from sagemaker_byoc.contract.lifecycle import clip
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import InputMode
from sagemaker_byoc.region.containers.hosts import (
    Outcome,
    StopSwitch,
    Why,
    failure_reason,
    merged,
    noting_links,
    sources,
)
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.sagemaker.jobs import outputs
from sagemaker_byoc.region.services.sagemaker.jobs.containers import (
    INTERNAL,
    REASON_PART,
    JobContainers,
    JobLog,
    UploadError,
    reason_of,
)
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import (
    DataType,
    DownloadError,
    find_items,
    find_lines,
)
from sagemaker_byoc.region.services.sagemaker.jobs.pipes import Feed, PipeFeeder
from sagemaker_byoc.region.services.sagemaker.training_jobs.layout import (
    Found,
    Job,
    Layout,
    lay_out,
)
from sagemaker_byoc.region.services.sagemaker.training_jobs.metric_collector import (
    MetricCollector,
)
from sagemaker_byoc.region.services.sagemaker.training_jobs.plan import MODEL_FOLDER
from sagemaker_byoc.region.services.sagemaker.training_jobs.record import (
    JobRecord,
    Secondary,
    Status,
)
from sagemaker_byoc.region.wire.operations import AwsError

LOG = logging.getLogger(__name__)

STOP_GRACE: float = lifecycle.TRAIN_STOP_GRACE.value
_STOPPED = (Secondary.STOPPED, "Training job stopped", Status.STOPPED)
_ENDS: Mapping[Why | None, tuple[Secondary, str, Status]] = {
    None: (Secondary.COMPLETED, "Training job completed", Status.COMPLETED),
    Why.STOP: _STOPPED,
    Why.CLOSING: _STOPPED,
    Why.RUNTIME: (
        Secondary.MAX_RUNTIME_EXCEEDED,
        "Training job runtime exceeded MaxRuntimeInSeconds provided",
        Status.STOPPED,
    ),
    Why.WAIT: (
        Secondary.MAX_WAIT_TIME_EXCEEDED,
        "Training job wait time exceeded MaxWaitTimeInSeconds provided",
        Status.STOPPED,
    ),
}


class JobRun(threading.Thread):
    """The thread of one job. `on_end` is called last in any case."""

    def __init__(
        self,
        job: Job,
        record: JobRecord,
        log: JobLog,
        metrics: MetricCollector,
        *,
        on_end: Callable[[str], None],
    ) -> None:
        super().__init__(daemon=True, name=f"job-{job.plan.name}")
        self.switch = StopSwitch()
        self.job_name = job.plan.name
        self._job = job
        self._plan = job.plan
        self._context = job.context
        self._work = job.work
        self._record = record
        self._log = log
        self._metrics = metrics
        self._on_end = on_end
        self._created = time.monotonic()
        self._used = 0.0
        """Seconds during which the job held instances."""
        self._broken: DownloadError | None = None
        self._bare_kill = False
        self._containers = JobContainers(job.context, log)
        self._unsent: str | None = None
        """Why not all checkpoints are in S3."""

    def stop(self, why: Why = Why.STOP) -> None:
        self.switch.ask(why)

    def interrupt(self, *, kill: bool) -> None:
        """Take the instances away: with SIGTERM and its 120 s, or at once."""
        self._bare_kill = kill
        self.switch.ask(Why.INTERRUPTED)

    def run(self) -> None:
        # Called in reverse order: after any failure the job has a reason, and waiters return.
        with ExitStack() as ends:
            ends.callback(self._on_end, self._plan.name)
            ends.callback(self._log.close)
            ends.callback(self._record.flush)
            ends.callback(self._outcome())
            # Before the end is written and announced: the disk may be full, and a client that waits
            # for this job may start the next one at once.
            ends.callback(folders.remove, self._work)
            ends.callback(self._containers.close)

    def _outcome(self) -> Callable[[], None]:
        """Run the job; return a function that writes its end into the record."""
        try:
            return self._run()
        except BaseException as error:
            reason = reason_of(error)
            if reason == INTERNAL or isinstance(error, OSError):
                LOG.exception("training job %s", self._plan.name)
            return partial(self._fail, reason)

    def _run(self) -> Callable[[], None]:
        while True:
            outcome = self._attempt()
            ended_by_itself = outcome is not None and not outcome.stopped
            if ended_by_itself or self.switch.why is not Why.INTERRUPTED:
                break
            self._containers.close()
            self._record.enter(
                Secondary.INTERRUPTED,
                "The job stopped because the managed spot training instances were interrupted",
            )
            self.switch = StopSwitch()
            if self._record.status is Status.STOPPING:
                self.switch.ask()
        return self._finish(outcome)

    def _attempt(self) -> Outcome | None:
        """Run until the containers have ended; return None if stopped before they started."""
        self._log.begin()
        types = [group.instance_type for group in self._plan.groups]
        if warning := self._job.image.machine_warning(types):
            self._log.say_once(warning)
        self._record.enter(Secondary.STARTING, "Launching requested ML instances")
        self._record.enter(Secondary.STARTING, "Preparing the instances for training")
        if self.switch.asked:
            return None
        folders.remove(self._work)
        began = time.monotonic()
        self._record.begin_training_time()
        timer = self._start_clock()
        try:
            self._record.enter(Secondary.DOWNLOADING, "Downloading input data")
            found = self._find()
            layout = lay_out(self._job, found, is_stopped=lambda: self.switch.asked)
            if self.switch.asked:
                return None
            return self._train(layout, found)
        finally:
            timer.set()
            self._used += time.monotonic() - began

    def _find(self) -> Found:
        found = []
        for channel in self._plan.channels:
            found.append((channel, find_items(self._context.store, channel)))
            if channel.data_type is DataType.AUGMENTED:
                find_lines(self._context.store, channel)
        return found

    def _train(self, layout: Layout, found: Found) -> Outcome | None:
        plan = self._plan
        self._pull()
        if self.switch.asked:
            return None
        containers = self._containers
        containers.open_network(layout.network)
        sync = None
        if plan.checkpoint is not None:
            sync = outputs.CheckpointSync(
                self._context.store, plan.checkpoint, layout.trees, self._log.say_once
            )
            containers.opened.callback(sync.close)
        self._feed(containers.opened, layout, found)
        role = str(self._job.request.get("RoleArn", ""))
        containers.start(layout.network, layout.specs, role, self._on_line)
        self._record.enter(
            Secondary.TRAINING, "Training image download completed. Training in progress."
        )
        if sync is not None:
            sync.follow(containers.hosts.containers)
        outcome = containers.hosts.wait(self.switch, self._grace)
        if sync is not None:
            sync.close()  # or both would copy the same folder
        containers.collect(outcome)
        self._unsent = sync.finish() if sync is not None else None
        return outcome

    def _pull(self) -> None:
        """Raise PullError."""
        downloading = "Downloading the training image"
        self._record.enter(Secondary.TRAINING, downloading)
        self._context.images.bring(
            self._job.image,
            say=lambda done: self._record.enter(Secondary.TRAINING, f"{downloading}: {done}"),
            is_stopped=lambda: self.switch.asked,
        )

    def _feed(self, stack: ExitStack, layout: Layout, found: Found) -> None:
        for plan, items in found:
            if plan.channel.mode is InputMode.PIPE:
                for host in plan.hosts:
                    feed = Feed(self._context.store, plan, items, host, layout.trees[host])
                    feeder = PipeFeeder(feed, self._break)
                    stack.callback(feeder.close)
                    feeder.start()

    def _break(self, error: DownloadError) -> None:
        """Stop the job: the data of a pipe turned out to be broken while it was read."""
        self._broken = self._broken or error
        self.switch.ask(Why.BROKEN)

    def _start_clock(self) -> threading.Event:
        """Stop the job when its time is over, unless the returned event is set before."""
        done = threading.Event()
        limits = [(self._plan.max_runtime - self._used, Why.RUNTIME)]
        if self._plan.max_wait is not None:
            waited = time.monotonic() - self._created
            limits.append((self._plan.max_wait - waited, Why.WAIT))
        seconds, why = min(limits, key=lambda limit: limit[0])
        switch = self.switch

        def clock() -> None:
            if not done.wait(max(0.0, seconds)) and not switch.asked:
                # The switch first: a client that sees Stopping must not be the one to stop it.
                switch.ask(why)
                self._record.enter(Secondary.STOPPING, "Stopping the training job", Status.STOPPING)

        threading.Thread(target=clock, daemon=True, name=f"clock-{self._plan.name}").start()
        return done

    def _grace(self) -> float:
        bare = self.switch.why is Why.INTERRUPTED and self._bare_kill
        return 0.0 if bare else STOP_GRACE

    def _on_line(self, host: str, line: str) -> None:
        self._log.write(host, line)
        self._metrics.see(line)

    def _finish(self, outcome: Outcome | None) -> Callable[[], None]:
        trees = self._job.trees
        members: dict[str, object] = {}
        if outcome is not None:
            for sentence in self._metrics.warnings():
                self._log.say(f"byoc: {sentence}")
            members = self._metric_members()
        why = self.switch.why if outcome is None or outcome.stopped else None
        if self._broken is not None:
            return partial(
                self._fail, f"ClientError: Data download failed: {self._broken}", **members
            )
        failed = outcome.failed if outcome is not None and why is None else None
        reason = None if failed is None or outcome is None else failure_reason(
            trees[failed], outcome.codes[failed], self._log.say_once
        )  # fmt: skip
        ended = now()
        if outcome is not None:
            if reason is None:
                self._record.enter(Secondary.UPLOADING, "Uploading generated training model")
            reason = self._upload(trees, reason)
        self._containers.close()
        if reason is not None:
            # The time of a failed job is that of the failure.
            return partial(self._fail, reason, ended=ended, **members)
        secondary, message, status = _ENDS[why]
        return partial(self._record.enter, secondary, message, status, **members, **self._times())

    def _upload(self, trees: Mapping[str, Tree], reason: str | None) -> str | None:
        """Return the job's `reason` to fail, with what failed here added to it.

        Raises UploadError if nothing else has failed.
        """
        warn, store, plan = self._log.say_once, self._context.store, self._plan
        failures = [] if self._unsent is None else [self._unsent]
        try:
            if not self._upload_artifacts(trees, warn):
                warn(f"/opt/ml/model was left empty: there is nothing at {plan.model_uri}")
        except (AwsError, OSError) as error:
            failures.append(str(error))
        try:
            outputs.upload_reports(plan.reports, trees, store, warn)
        except (AwsError, OSError) as error:  # the training has not failed for that
            warn(f"what was written for Debugger or TensorBoard is not in S3: {error}")
        if not failures:
            return reason
        text = clip("; ".join(failures), REASON_PART)
        text = ". ".join(filter(None, (text, self._containers.hosts.keep())))
        if reason is None:
            raise UploadError(text)
        return f"{reason}; {text}"

    def _upload_artifacts(self, trees: Mapping[str, Tree], warn: folders.OnLeft) -> bool:
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
        return outputs.send_archive(self._context.store, bucket, key, entries, self._work / name)

    def _metric_members(self) -> dict[str, object]:
        last = self._metrics.last
        return {
            "FinalMetricDataList": [
                {"MetricName": name, "Value": value.value, "Timestamp": value.time}
                for name, value in last.items()
            ]
        } if last else {}  # fmt: skip

    def _fail(self, reason: str, ended: object = None, **members: object) -> None:
        self._record.fail(reason, **members, **self._times(ended))

    def _times(self, ended: object = None) -> dict[str, object]:
        """Return the members about time; none for a job whose instances never started."""
        document = self._record.document
        if "TrainingStartTime" not in document:
            return {}
        end = ended or now()
        lasted = (end - document["TrainingStartTime"]).total_seconds()
        return {
            "TrainingEndTime": end,
            "TrainingTimeInSeconds": max(1, round(lasted)),
            "BillableTimeInSeconds": max(1, round(min(lasted, self._used))),
        }
