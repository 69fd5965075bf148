"""One job of any kind, from its first stage to its last, in a thread.

`JobRun` gives every job a log, an end and a verdict; `ContainersRun` runs the containers of a job
whose program reads its input, ends by itself, and leaves results: training and processing.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sagemaker_byoc.contract import folders, lifecycle
from sagemaker_byoc.contract.lifecycle import clip
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import InputMode
from sagemaker_byoc.region.containers.hosts import Outcome, StopSwitch, Why, failure_reason
from sagemaker_byoc.region.containers.specs import Image
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.engines.container import ContainerSpec, Network
from sagemaker_byoc.region.services.sagemaker.jobs.containers import (
    INTERNAL,
    REASON_PART,
    JobContainers,
    JobLog,
    UploadError,
    reason_of,
)
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import (
    ChannelPlan,
    DataType,
    DownloadError,
    Item,
    find_items,
    find_lines,
)
from sagemaker_byoc.region.services.sagemaker.jobs.job import Job, JobRecord, Stage
from sagemaker_byoc.region.services.sagemaker.jobs.outputs import FolderSync, SyncedFolder
from sagemaker_byoc.region.services.sagemaker.jobs.pipes import Feed, PipeFeeder
from sagemaker_byoc.region.wire.operations import AwsError

LOG = logging.getLogger(__name__)

STOP_GRACE: float = lifecycle.TRAIN_STOP_GRACE.value
Found = Sequence[tuple[ChannelPlan, Sequence[Item]]]
_ENDS: Mapping[Why | None, Stage] = {
    None: Stage.COMPLETED,
    Why.STOP: Stage.STOPPED,
    Why.CLOSING: Stage.STOPPED,
    Why.RUNTIME: Stage.OUT_OF_RUNTIME,
    Why.WAIT: Stage.OUT_OF_WAIT,
}


class JobRun(threading.Thread, ABC):
    """The thread of one job. `on_end` is called last in any case."""

    def __init__(self, job: Job, record: JobRecord, on_end: Callable[[str], None]) -> None:
        super().__init__(daemon=True, name=f"job-{job.name}")
        self.job = job
        self.switch = StopSwitch()
        self._context = job.context
        self._record = record
        self._log = JobLog(job.context.logs, job.kind.group, job.name, job.hosts[0])
        self._on_end = on_end

    def stop(self, why: Why = Why.STOP) -> None:
        self.switch.ask(why)

    def run(self) -> None:
        # Called in reverse order: after any failure the job has a reason, and waiters return.
        with ExitStack() as ends:
            ends.callback(self._on_end, self.job.name)
            ends.callback(self._log.close)
            ends.callback(self._record.flush)
            ends.callback(self._outcome())
            # Before the end is written and announced: the disk may be full, and a client that waits
            # for this job may start the next one at once.
            ends.callback(folders.remove, self.job.work)
            ends.callback(self._close)

    def _outcome(self) -> Callable[[], None]:
        """Run the job; return a function that writes its end into the record."""
        try:
            return self._run()
        except BaseException as error:
            reason = reason_of(error)
            if reason == INTERNAL or isinstance(error, OSError):
                LOG.exception("%s %s", self.job.kind.noun, self.job.name)
            return partial(self._fail, reason)

    @abstractmethod
    def _run(self) -> Callable[[], None]:
        """Do the work; return a function that writes the job's end into the record."""

    def _close(self) -> None:
        """End what `_run` has left behind by raising."""

    def _complete(self, why: Why | None, **members: Any) -> None:
        """Write the end of a job that did not fail; `why` it was stopped."""
        self._record.enter(_ENDS[why], **members, **self._times())

    def _fail(self, reason: str, ended: datetime | None = None, **members: Any) -> None:
        self._record.fail(reason, **members, **self._times(ended))

    def _times(self, ended: datetime | None = None) -> dict[str, Any]:
        """Return the members about time; none for a job whose instances never started."""
        times = self.job.kind.times
        if f"{times}StartTime" not in self._record.document:
            return {}
        return {f"{times}EndTime": ended or now()}


@dataclass(frozen=True, slots=True)
class Layout:
    """A tree and a container per host, and their network."""

    trees: Mapping[str, Tree]
    specs: Mapping[str, ContainerSpec]
    network: Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the containers of a job need."""

    image: Image
    instance_types: Sequence[str]
    channels: Sequence[ChannelPlan] = ()
    synced: Sequence[SyncedFolder] = ()
    """Folders that are sent to S3 while the containers run."""
    max_runtime: float
    """Seconds."""


class ContainersRun(JobRun):
    """A job of containers. A kind lays them out, and sends their results."""

    def __init__(
        self, job: Job, needs: Needs, record: JobRecord, on_end: Callable[[str], None]
    ) -> None:
        super().__init__(job, record, on_end)
        self._needs = needs
        self._used = 0.0
        """Seconds during which the job held instances."""
        self._broken: DownloadError | None = None
        self._containers = JobContainers(job.context, self._log)
        self._unsent: list[str] = []
        """Why not all synced folders are in S3."""

    @abstractmethod
    def _lay_out(self, found: Found) -> Layout:
        """Write the trees of all hosts, and stage the input. Raise DownloadError."""

    @abstractmethod
    def _send(self, trees: Mapping[str, Tree]) -> None:
        """Send the results of ended containers to S3. Raise AwsError, OSError or UploadError."""

    def _see(self, line: str) -> None:
        """Look at a line of a log; called from the threads of all hosts."""

    def _members(self) -> dict[str, Any]:
        """Return what the document of an ended job has in addition."""
        return {}

    def _reason(self, tree: Tree, code: int) -> str:
        """Return the FailureReason of a program that ended with `code`."""
        return failure_reason(tree, code, self._log.say_once)

    def _run(self) -> Callable[[], None]:
        return self._finish(self._attempt())

    def _close(self) -> None:
        self._containers.close()

    # ── an attempt ──

    def _attempt(self) -> Outcome | None:
        """Run until the containers have ended; return None if stopped before they started."""
        self._log.begin()
        if warning := self._needs.image.machine_warning(self._needs.instance_types):
            self._log.say_once(warning)
        self._record.enter(Stage.LAUNCHING)
        self._record.enter(Stage.PREPARING)
        if self.switch.asked:
            return None
        folders.remove(self.job.work)
        began = time.monotonic()
        self._record.begin_time()
        timer = self._start_clock()
        try:
            self._record.enter(Stage.DOWNLOADING)
            found = self._find()
            layout = self._lay_out(found)
            if self.switch.asked:
                return None
            return self._run_containers(layout, found)
        finally:
            timer.set()
            self._used += time.monotonic() - began

    def _find(self) -> Found:
        found = []
        for channel in self._needs.channels:
            found.append((channel, find_items(self._context.store, channel)))
            if channel.data_type is DataType.AUGMENTED:
                find_lines(self._context.store, channel)
        return found

    def _run_containers(self, layout: Layout, found: Found) -> Outcome | None:
        self._pull()
        if self.switch.asked:
            return None
        containers = self._containers
        containers.open_network(layout.network)
        syncs = [
            FolderSync(self._context.store, folder, layout.trees, self._log.say_once)
            for folder in self._needs.synced
        ]
        for sync in syncs:
            containers.opened.callback(sync.close)
        self._feed(containers.opened, layout, found)
        containers.start(layout.network, layout.specs, self.job.role, self._on_line)
        self._record.enter(Stage.RUNNING)
        for sync in syncs:
            sync.follow(containers.hosts.containers)
        outcome = containers.hosts.wait(self.switch, self._grace)
        for sync in syncs:
            sync.close()  # or both would copy the same folder
        containers.collect(outcome)
        self._unsent = [why for sync in syncs if (why := sync.finish()) is not None]
        return outcome

    def _pull(self) -> None:
        """Raise PullError."""
        self._record.enter(Stage.PULLING)
        self._context.images.bring(
            self._needs.image,
            say=lambda done: self._record.enter(Stage.PULLING, done),
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

    def _limits(self) -> Iterable[tuple[float, Why]]:
        """Yield how many seconds the attempt may take, and why it would be stopped then."""
        yield self._needs.max_runtime - self._used, Why.RUNTIME

    def _start_clock(self) -> threading.Event:
        """Stop the job when its time is over, unless the returned event is set before."""
        done = threading.Event()
        seconds, why = min(self._limits(), key=lambda limit: limit[0])
        switch = self.switch

        def clock() -> None:
            if not done.wait(max(0.0, seconds)) and not switch.asked:
                # The switch first: a client that sees Stopping must not be the one to stop it.
                switch.ask(why)
                self._record.enter(Stage.STOPPING)

        threading.Thread(target=clock, daemon=True, name=f"clock-{self.job.name}").start()
        return done

    def _grace(self) -> float:
        """Return the seconds from SIGTERM to SIGKILL."""
        return STOP_GRACE

    def _on_line(self, host: str, line: str) -> None:
        self._log.write(host, line)
        self._see(line)

    # ── the verdict ──

    def _finish(self, outcome: Outcome | None) -> Callable[[], None]:
        members = {} if outcome is None else self._members()
        if self._broken is not None:
            return partial(self._fail, reason_of(self._broken), **members)
        if outcome is None:
            return partial(self._complete, self.switch.why)
        trees = self.job.trees
        why = self.switch.why if outcome.stopped else None
        reason = None
        if why is None and outcome.failed is not None:
            reason = self._reason(trees[outcome.failed], outcome.codes[outcome.failed])
        ended = now()
        if reason is None:
            self._record.enter(Stage.UPLOADING)
        reason = self._upload(trees, reason)
        self._containers.close()
        if reason is not None:
            # The time of a failed job is that of the failure.
            return partial(self._fail, reason, ended=ended, **members)
        return partial(self._complete, why, **members)

    def _upload(self, trees: Mapping[str, Tree], reason: str | None) -> str | None:
        """Return the job's `reason` to fail, with what failed here added to it."""
        failures = [*self._unsent]
        try:
            self._send(trees)
        except (AwsError, OSError, UploadError) as error:
            failures.append(str(error))
        if not failures:
            return reason
        text = clip("; ".join(failures), REASON_PART)
        text = ". ".join(filter(None, (text, self._containers.hosts.keep())))
        if reason is None:
            return reason_of(UploadError(text))
        return f"{reason}; {text}"
