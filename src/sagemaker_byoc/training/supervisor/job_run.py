"""One run of a job: its plan, its log, and what its end means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from signal import Signals
from typing import TYPE_CHECKING

from sagemaker_byoc.contract.folders import LEFT_OUT, Entry, readable, walk
from sagemaker_byoc.contract.gpu import check_gpus
from sagemaker_byoc.contract.lifecycle import SIGNAL_BASE, ExitCode, exit_code_of, first_names
from sagemaker_byoc.contract.machine import oom_kills
from sagemaker_byoc.contract.masking import Secrets
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import InputMode
from sagemaker_byoc.contract.training.job import Job
from sagemaker_byoc.contract.variables import ALLOW_CPU
from sagemaker_byoc.training.supervisor.plan import Plan, banner, make_folders, make_plan
from sagemaker_byoc.training.supervisor.process.log import Writer
from sagemaker_byoc.training.supervisor.process.loop import Ending, SignalQueue, Supervisor
from sagemaker_byoc.training.supervisor.ranks.hosts import read_job

if TYPE_CHECKING:
    from sagemaker_byoc.training.supervisor.failure.diagnosis import Circumstances

MOST = 100_000
"""Entries of the model folder that are looked at: the end of a job must not wait for more."""
SHOWN = 3
FLUSH_SECONDS = 60.0
FLUSH_SECONDS_STOPPING = 3.0
"""The same after a stop, when SageMaker's grace period is about to end."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of the container."""

    code: int
    reason: str = ""
    """For the failure file."""
    flush: float = FLUSH_SECONDS
    """Seconds that writing the log may take."""


class JobRun:
    """What the steps of one job share: its plan, its log, and the judgment of its end."""

    def __init__(self, tree: Tree, signals: SignalQueue, writer: Writer) -> None:
        self.signals = signals
        self.writer = writer
        self.job = read_job(tree, os.environ)
        writer.mask = Secrets.of(self.job.hyperparameters, os.environ).mask
        make_folders(tree)
        self.plan: Plan = make_plan(self.job, os.environ)
        self.absent = tuple(_absent_channels(self.job))
        self.kills = oom_kills()
        self.addresses: Mapping[str, str] = {}

    def announce(self) -> None:
        self.writer.say(banner(self.plan))
        if self.plan.source.passed_over:
            self.writer.say(f"code passed over: {', '.join(self.plan.source.passed_over)}")
        for line in (*self.plan.warnings, *self.absent):
            self.writer.say(f"warning: {line}")

    def check_gpus(self) -> None:
        """Log why GPUs stay unused; raise ContractError if their driver is too old for torch."""
        instance_type = self.job.cluster.current_instance_type
        allowed = self.plan.settings.flag(ALLOW_CPU)
        warning = check_gpus(os.environ, instance_type, allowed=allowed)
        if warning:
            self.writer.say(warning)

    def supervisor(self) -> Supervisor:
        """Return a supervisor for a program that is not one of several ranks."""
        return Supervisor(signals=self.signals, writer=self.writer, grace=self.plan.stop_grace)

    def judge(self, ending: Ending) -> Verdict:
        """Return the verdict from the first program that failed, if no link has found a cause."""
        flush = FLUSH_SECONDS_STOPPING if ending.stop else FLUSH_SECONDS
        failed = [outcome for outcome in ending.outcomes if outcome.returncode]
        if not failed:
            if not ending.stop and (line := _unusable_in_model(self.job.tree)):
                self.writer.say(f"warning: {line}")
            return Verdict(ExitCode.OK, flush=flush)
        # Imported only now: it is most of this package, and a job that succeeds does not need it.
        from sagemaker_byoc.training.supervisor.failure.diagnosis import failure_text  # noqa: PLC0415

        reason = failure_text(failed[0], self.circumstances())
        return self.failed(exit_code_of(failed[0].returncode), reason, flush)

    def failed(self, code: int, reason: str, flush: float) -> Verdict:
        self.writer.say(f"the program failed: {reason.splitlines()[0]}")
        return Verdict(code, reason, flush)

    def circumstances(self, host: str = "") -> Circumstances:
        from sagemaker_byoc.training.supervisor.failure.diagnosis import Circumstances  # noqa: PLC0415 - see judge

        return Circumstances(
            self.job,
            self.plan.source.folder,
            absent=self.absent,
            oom_kills=oom_kills() - self.kills,
            host=host,
            mask=self.writer.mask,
        )

    def stopped_early(self, stop: Signals | None) -> Verdict:
        number = stop or Signals.SIGTERM
        reason = f"stopped by {number.name} before the program was started"
        self.writer.say(reason)
        return Verdict(SIGNAL_BASE + number, reason, FLUSH_SECONDS_STOPPING)


def _absent_channels(job: Job) -> list[str]:
    """Return a line for each declared channel without data on this host.

    FastFile folders count as well; a Pipe channel has no folder.
    """
    return [
        f"channel {name!r} has no data: {job.tree.channel(name)} is {state}; check that its "
        "S3 address holds objects (and, for a group of instances, that it is meant for this one)"
        for name, channel in job.channels.items()
        if channel.mode is not InputMode.PIPE and (state := _state(job, name))
    ]


def _state(job: Job, name: str) -> str | None:
    try:
        next(job.tree.channel(name).iterdir())
    except StopIteration:
        return "empty"
    except OSError:
        return "missing"
    return None


def _unusable_in_model(tree: Tree) -> str:
    """Return one line about what hosting can't use in the model folder; "" if all is well."""
    left: list[str] = []
    try:
        links = _links(tree, left)
    except OSError as error:
        return f"{tree.model} can't be read ({error.strerror})"
    parts = []
    if links:
        parts.append(
            f"{tree.model} holds {len(links)} links ({first_names(links, SHOWN)}): they become "
            "links in model.tar.gz, and hosting may refuse such an archive; copy the files instead"
        )
    if left:
        what = first_names([sentence.removeprefix(LEFT_OUT) for sentence in left], SHOWN)
        parts.append(f"not usable in model.tar.gz: {what}")
    return "; ".join(parts)


def _links(tree: Tree, left: list[str]) -> list[str]:
    """Return symbolic links, and further names of a file that the folder already holds."""
    seen: set[tuple[int, int]] = set()
    entries = walk(tree.root, tree.model.name, left.append, keep_links=True)
    return [
        readable(entry.relative)
        for entry in islice(entries, MOST)
        if entry.link is not None or _is_known(entry, seen)
    ]


def _is_known(entry: Entry, seen: set[tuple[int, int]]) -> bool:
    if entry.file is None or entry.status.st_nlink == 1:  # folders have other links
        return False
    key = (entry.status.st_dev, entry.status.st_ino)
    is_known = key in seen
    seen.add(key)
    return is_known
