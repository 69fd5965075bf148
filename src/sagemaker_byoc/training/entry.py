"""The command `train`: the only place where an error becomes an exit code."""

from __future__ import annotations

import os
import sys

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.failure import write_failure
from sagemaker_byoc.contract.job import Job
from sagemaker_byoc.contract.lifecycle import SIGNAL_BASE, TRAIN_ARGUMENT, ExitCode, exit_code_of
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.training.supervisor.cgroup import oom_kills
from sagemaker_byoc.training.supervisor.inputs import absent_channels
from sagemaker_byoc.training.supervisor.loop import Supervisor
from sagemaker_byoc.training.supervisor.masking import Secrets
from sagemaker_byoc.training.supervisor.plan import STOP_GRACE, banner, make_folders, make_plan
from sagemaker_byoc.training.supervisor.signals import STOP, SignalQueue
from sagemaker_byoc.training.supervisor.writer import ERR, PREFIX, Writer

USAGE = f"""\
usage: {TRAIN_ARGUMENT.value}

Runs the training program of this container, as SageMaker starts it: with the argument
{TRAIN_ARGUMENT.value!r}, or with none. The job is described by the files under /opt/ml/input.
{STOP_GRACE} sets the seconds that the program has to end after SIGTERM.
"""
FLUSH_SECONDS = 60.0
FLUSH_SECONDS_STOPPING = 3.0
"""SageMaker's grace period is about to end."""


def main() -> int:
    """Run the training job of this container; the exit code for the process."""
    arguments = sys.argv[1:]
    if arguments not in ([], [TRAIN_ARGUMENT.value]):
        sys.stderr.write(f"{PREFIX}unknown arguments {arguments}\n{USAGE}")
        return ExitCode.BAD_INPUT
    signals = SignalQueue()
    writer = Writer()
    tree = Tree(Tree.from_environ(os.environ).root.absolute())  # the program has another folder
    code, reason, flush = _judge(tree, signals, writer)
    writer.close(flush)
    if code:
        _leave_reason(tree, writer.mask(reason))
    return code


def _judge(tree: Tree, signals: SignalQueue, writer: Writer) -> tuple[int, str, float]:
    """Exit code, why, and how long the log may take."""
    try:
        return _train(tree, signals, writer)
    except ContractError as error:
        writer.say(str(error))
        return ExitCode.BAD_INPUT, str(error), FLUSH_SECONDS_STOPPING
    except Exception as error:  # noqa: BLE001 - the last resort: the job must end with a reason
        import traceback  # noqa: PLC0415 - only a defect of ours needs it

        writer.say_text(traceback.format_exc())
        reason = f"internal error of the training supervisor: {type(error).__name__}: {error}"
        return ExitCode.INTERNAL, reason, FLUSH_SECONDS_STOPPING


def _train(tree: Tree, signals: SignalQueue, writer: Writer) -> tuple[int, str, float]:
    _forget_old_reason(tree)
    job = Job.read(tree)
    writer.mask = Secrets.of(job.hyperparameters, os.environ).mask
    make_folders(tree)
    plan = make_plan(job, os.environ)
    writer.say(banner(plan))
    if plan.source.passed_over:
        writer.say(f"code passed over: {', '.join(plan.source.passed_over)}")
    absent = absent_channels(job)
    for line in absent:
        writer.say(f"warning: {line}")
    early = [number for number in signals.take() if number in STOP]
    if early:
        reason = f"stopped by {early[0].name} before the program was started"
        writer.say(reason)
        return SIGNAL_BASE + early[0], reason, FLUSH_SECONDS_STOPPING
    kills = oom_kills()
    supervisor = Supervisor(signals=signals, writer=writer, grace=plan.stop_grace)
    outcome = supervisor.run(plan.command, folder=plan.source.folder, environment=plan.environment)
    flush = FLUSH_SECONDS_STOPPING if outcome.stop else FLUSH_SECONDS
    code = exit_code_of(outcome.returncode)
    if not code:
        return ExitCode.OK, "", flush
    # Imported only now: it is most of this room, and a job that succeeds needs none of it.
    from sagemaker_byoc.training.supervisor.diagnosis import Circumstances, failure_text  # noqa: PLC0415

    circumstances = Circumstances(
        job, plan.source.folder, absent=tuple(absent), oom_kills=oom_kills() - kills
    )
    reason = failure_text(outcome, circumstances)
    writer.say(f"the program failed: {reason.splitlines()[0]}")
    return code, reason, flush


def _forget_old_reason(tree: Tree) -> None:
    """One from an earlier run in the same tree would speak for this one."""
    try:
        tree.failure.unlink(missing_ok=True)
    except OSError:
        return  # _leave_reason will say that it can't be written


def _leave_reason(tree: Tree, reason: str) -> None:
    """Write the failure file, unless the program wrote its own."""
    try:
        if not (tree.failure.is_file() and tree.failure.stat().st_size):
            write_failure(tree, reason)
    except OSError as error:
        message = f"{PREFIX}{tree.failure} can't be written ({error.strerror}): {reason}\n"
        os.write(ERR, message.encode("utf-8", "replace"))
