"""One run of a job: its plan, its log, and what its end means."""

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
from sagemaker_byoc.contract.variables import ALLOW_CPU
from sagemaker_byoc.training.supervisor.failure.folders import absent_channels
from sagemaker_byoc.training.supervisor.plan import Plan, banner, make_folders, make_plan
from sagemaker_byoc.training.supervisor.process.child import Outcome
from sagemaker_byoc.training.supervisor.process.log import Writer
from sagemaker_byoc.training.supervisor.process.loop import Ending, SignalQueue, Supervisor
from sagemaker_byoc.training.supervisor.ranks.hosts import read_job

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


class JobRun:
    """What all steps of one job share: its plan, its log, and how its end is judged."""

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
        from sagemaker_byoc.training.supervisor.failure.folders import odd_things  # noqa: PLC0415 - after the end

        line = odd_things(self.job.tree)
        if line:
            self.writer.say(f"warning: {line}")

    def stopped_early(self, stop: Signals | None) -> Verdict:
        number = stop or Signals.SIGTERM
        reason = f"stopped by {number.name} before the program was started"
        self.writer.say(reason)
        return Verdict(SIGNAL_BASE + number, reason, FLUSH_SECONDS_STOPPING)
