"""The course of one job: what is decided, waited for, started, and what its end means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from signal import Signals

from sagemaker_byoc.contract.gpu import check_gpus
from sagemaker_byoc.contract.lifecycle import SIGNAL_BASE, ExitCode, exit_code_of
from sagemaker_byoc.contract.machine import oom_kills
from sagemaker_byoc.contract.masking import Secrets
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.training.supervisor.failure.inputs import absent_channels
from sagemaker_byoc.training.supervisor.plan import Plan, banner, make_folders, make_plan
from sagemaker_byoc.training.supervisor.process.child import Outcome
from sagemaker_byoc.training.supervisor.process.loop import Ending, Supervisor
from sagemaker_byoc.training.supervisor.process.signals import STOP, SignalQueue
from sagemaker_byoc.training.supervisor.process.writer import Writer
from sagemaker_byoc.training.supervisor.ranks.outside import has_named_hosts, read_job
from sagemaker_byoc.training.supervisor.settings import (
    ALLOW_CPU,
    DNS_SECONDS,
    HANG_SECONDS,
    INSTALL_REQUIREMENTS,
    REPLACE,
)

FLUSH_SECONDS = 60.0
FLUSH_SECONDS_STOPPING = 3.0
"""SageMaker's grace period is about to end."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the container ends with."""

    code: int
    reason: str = ""
    """For the failure file."""
    flush: float = FLUSH_SECONDS
    """Seconds that the log may take to be written."""


class Course:
    """What all steps of one job need."""

    def __init__(self, tree: Tree, signals: SignalQueue, writer: Writer) -> None:
        self.signals = signals
        self.writer = writer
        self.job = read_job(tree, os.environ)
        writer.mask = Secrets.of(self.job.hyperparameters, os.environ).mask
        make_folders(tree)
        self.plan: Plan = make_plan(self.job, os.environ)
        self.absent = tuple(absent_channels(self.job))
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

    def run(self) -> Verdict:
        if len(self.job.cluster.hosts) > 1 and has_named_hosts(self.job):
            self._wait_for_hosts()
        if self._early_stop():
            return self.stopped_early(self._early_stop())
        if self.plan.settings.flag(INSTALL_REQUIREMENTS):
            failed = self._install()
            if failed:
                return failed
        settings = self.plan.settings
        if settings.asks_for_ranks or settings.text(HANG_SECONDS):
            from sagemaker_byoc.training.supervisor.ranks.group import run_group  # noqa: PLC0415

            return run_group(self)
        ending = self.supervisor().run([self.plan.program])
        return self.judge(ending)

    def supervisor(self) -> Supervisor:
        """One that runs a program for itself."""
        return Supervisor(signals=self.signals, writer=self.writer, grace=self.plan.stop_grace)

    def judge(self, ending: Ending) -> Verdict:
        """The first rank that failed speaks, where no link has found a cause."""
        flush = FLUSH_SECONDS_STOPPING if ending.stop else FLUSH_SECONDS
        failed = [outcome for outcome in ending.outcomes if outcome.returncode]
        if not failed:
            if not ending.stop:  # else each second counts
                self._look_at_model()
            return Verdict(ExitCode.OK, flush=flush)
        reason = self.reason(failed[0])
        return self.failed(exit_code_of(failed[0].returncode), reason, flush)

    def failed(self, code: int, reason: str, flush: float) -> Verdict:
        self.writer.say(f"the program failed: {reason.splitlines()[0]}")
        return Verdict(code, reason, flush)

    def reason(self, outcome: Outcome) -> str:
        # Imported only now: it is most of this room, and a job that succeeds needs none of it.
        from sagemaker_byoc.training.supervisor.failure.diagnosis import Circumstances, failure_text  # noqa: PLC0415

        circumstances = Circumstances(
            self.job,
            self.plan.source.folder,
            absent=self.absent,
            oom_kills=oom_kills() - self.kills,
            mask=self.writer.mask,
        )
        return failure_text(outcome, circumstances)

    def _look_at_model(self) -> None:
        """Name what does not survive on the way to hosting; one line, whatever the folder holds."""
        from sagemaker_byoc.training.supervisor.failure.model import odd_things  # noqa: PLC0415 - after the end

        line = odd_things(self.job.tree)
        if line:
            self.writer.say(f"warning: {line}")

    def stopped_early(self, stop: Signals | None) -> Verdict:
        number = stop or Signals.SIGTERM
        reason = f"stopped by {number.name} before the program was started"
        self.writer.say(reason)
        return Verdict(SIGNAL_BASE + number, reason, FLUSH_SECONDS_STOPPING)

    def _early_stop(self) -> Signals | None:
        return self.signals.first(STOP)

    def _wait_for_hosts(self) -> None:
        from sagemaker_byoc.training.supervisor.ranks.hosts import DEFAULT_SECONDS, wait_for_hosts  # noqa: PLC0415

        seconds = self.plan.settings.seconds(DNS_SECONDS, DEFAULT_SECONDS)
        if seconds:
            self.addresses = wait_for_hosts(
                self.job.cluster.hosts,
                seconds,
                is_stopped=lambda: self._early_stop() is not None,
            )

    def _install(self) -> Verdict | None:
        """A verdict only where the job ends with it."""
        from sagemaker_byoc.training.supervisor.program.requirements import failure, install_program  # noqa: PLC0415

        folder, environment = self.plan.source.folder, self.plan.program.environment
        replace = self.plan.settings.text(REPLACE) or ""
        program = install_program(self.job, folder, environment, replace=replace)
        ending = self.supervisor().run([program])
        [outcome] = ending.outcomes
        if ending.stop:
            return self.stopped_early(ending.stop)
        if outcome.returncode:
            return self.failed(exit_code_of(outcome.returncode), failure(outcome), FLUSH_SECONDS)
        return None


def run_job(tree: Tree, signals: SignalQueue, writer: Writer) -> Verdict:
    """Raise ContractError for whatever keeps the program from being started."""
    course = Course(tree, signals, writer)
    course.announce()
    course.check_gpus()
    return course.run()
