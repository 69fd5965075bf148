"""The command `train`: the steps of one job; the one place where an error becomes an exit code."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from signal import Signals

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.facts import FAILURE_REASON
from sagemaker_byoc.contract.lifecycle import TRAIN_ARGUMENT, ExitCode, exit_code_of, write_failure
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.variables import (
    DNS_SECONDS,
    HANG_SECONDS,
    INSTALL_REQUIREMENTS,
    NPROC,
    REPLACE,
    STOP_GRACE,
)
from sagemaker_byoc.training.supervisor.job_run import (
    FLUSH_SECONDS,
    FLUSH_SECONDS_STOPPING,
    JobRun,
    Verdict,
)
from sagemaker_byoc.training.supervisor.process.log import ERR, PREFIX, Writer
from sagemaker_byoc.training.supervisor.process.loop import STOP, SignalQueue
from sagemaker_byoc.training.supervisor.ranks.hosts import has_named_hosts

CHECK = "--check"
USAGE = f"""\
usage: {TRAIN_ARGUMENT.value} [{CHECK}]

Runs the training program of this container, as SageMaker starts it: with the argument
{TRAIN_ARGUMENT.value!r}, or with none. The job is described by the files under /opt/ml/input.
{CHECK} starts nothing, and says whether a job could run here.
{NPROC}=gpu starts one process for each GPU, over all hosts of the job.
{STOP_GRACE} sets the seconds that the program has to end after SIGTERM.
"""


def main() -> int:
    """Run the training job of this container; the exit code for the process."""
    arguments = sys.argv[1:]
    if arguments[:1] == [TRAIN_ARGUMENT.value]:
        arguments = arguments[1:]
    tree = Tree(Tree.from_environ(os.environ).root.absolute())  # the program has another folder
    if arguments == [CHECK]:
        from sagemaker_byoc.training.supervisor.preflight import check  # noqa: PLC0415

        return check(tree, os.environ)
    if arguments:
        sys.stderr.write(f"{PREFIX}unknown arguments {arguments}\n{USAGE}")
        return ExitCode.BAD_INPUT
    signals = SignalQueue()
    writer = Writer()
    verdict = _judge(tree, signals, writer)
    writer.close(verdict.flush)
    if verdict.code:
        _leave_reason(tree, writer.mask(verdict.reason))
    return verdict.code


def _judge(tree: Tree, signals: SignalQueue, writer: Writer) -> Verdict:
    """The last resort of every error: a job must end with a reason."""
    try:
        _forget_old_reason(tree)
        return run_job(tree, signals, writer)
    except ContractError as error:
        writer.say(str(error))
        return Verdict(ExitCode.BAD_INPUT, str(error), FLUSH_SECONDS_STOPPING)
    except Exception as error:  # noqa: BLE001 - see above
        import traceback  # noqa: PLC0415 - only a defect of ours needs it

        writer.say_text(traceback.format_exc())
        reason = f"internal error of the training supervisor: {type(error).__name__}: {error}"
        return Verdict(ExitCode.INTERNAL, reason, FLUSH_SECONDS_STOPPING)


def _forget_old_reason(tree: Tree) -> None:
    """One from an earlier run in the same tree would speak for this one."""
    try:
        tree.failure.unlink(missing_ok=True)
    except OSError:
        return  # _leave_reason will say that it can't be written


def _leave_reason(tree: Tree, reason: str) -> None:
    """Write the failure file, unless the program wrote its own."""
    try:
        _make_reachable(tree)
        if not _is_written(tree.failure):
            write_failure(tree, _read_through(tree.failure) or reason)
    except OSError as error:
        message = f"{PREFIX}{tree.failure} can't be written ({error.strerror}): {reason}\n"
        with suppress(OSError):  # the log may be closed
            os.write(ERR, message.encode("utf-8", "replace"))


def _make_reachable(tree: Tree) -> None:
    """Undo what the program did to the folder, and move away what is in the file's place."""
    folder = tree.failure.parent
    if folder.exists() and not folder.is_dir():
        folder.rename(folder.with_name(f"{folder.name}.file"))
    elif folder.is_dir() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        with suppress(OSError):  # it is another user's
            folder.chmod(0o755)
    if tree.failure.is_dir() and not tree.failure.is_symlink():
        tree.failure.rename(tree.failure.with_name(f"{tree.failure.name}.folder"))


def _is_written(path: Path) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def _read_through(path: Path) -> str:
    """The text that a link in the file's place leads to, if that is a file; else nothing."""
    if not (path.is_symlink() and path.is_file()):
        return ""
    with open(path, "rb") as file:
        return file.read(FAILURE_REASON.value).decode("utf-8", "replace")


def run_job(tree: Tree, signals: SignalQueue, writer: Writer) -> Verdict:
    """Run the job; raise ContractError for anything that keeps the program from starting.

    What few jobs need is imported only by those: a plain program must not wait for it.
    """
    run = JobRun(tree, signals, writer)
    run.announce()
    run.check_gpus()
    if len(run.job.cluster.hosts) > 1 and has_named_hosts(run.job):
        _wait_for_hosts(run)
    if stop := _early_stop(run):
        return run.stopped_early(stop)
    if run.plan.settings.flag(INSTALL_REQUIREMENTS) and (failed := _install(run)):
        return failed
    if run.plan.settings.asks_for_ranks or run.plan.settings.text(HANG_SECONDS):
        from sagemaker_byoc.training.supervisor.ranks.group import run_group  # noqa: PLC0415

        return run_group(run)
    return run.judge(run.supervisor().run([run.plan.program]))


def _early_stop(run: JobRun) -> Signals | None:
    return run.signals.first(STOP)


def _wait_for_hosts(run: JobRun) -> None:
    from sagemaker_byoc.training.supervisor.ranks.hosts import DEFAULT_SECONDS, wait_for_hosts  # noqa: PLC0415

    seconds = run.plan.settings.seconds(DNS_SECONDS, DEFAULT_SECONDS)
    if seconds:
        run.addresses = wait_for_hosts(
            run.job.cluster.hosts, seconds, is_stopped=lambda: _early_stop(run) is not None
        )


def _install(run: JobRun) -> Verdict | None:
    """Install the program's requirements; return a verdict only if the job ends with it."""
    from sagemaker_byoc.training.supervisor.program.requirements import failure, install_program  # noqa: PLC0415

    folder, environment = run.plan.source.folder, run.plan.program.environment
    replace = run.plan.settings.text(REPLACE) or ""
    program = install_program(run.job, folder, environment, replace=replace)
    ending = run.supervisor().run([program])
    [outcome] = ending.outcomes
    if ending.stop:
        return run.stopped_early(ending.stop)
    if outcome.returncode:
        return run.failed(exit_code_of(outcome.returncode), failure(outcome), FLUSH_SECONDS)
    return None
