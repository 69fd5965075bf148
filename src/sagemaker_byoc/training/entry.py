"""The command `train`: the steps of one job; the one place where an error becomes an exit code."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

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
from sagemaker_byoc.training.supervisor.process.loop import SignalQueue
from sagemaker_byoc.training.supervisor.ranks.hosts import (
    DEFAULT_SECONDS,
    has_named_hosts,
    wait_for_hosts,
)

CHECK = "--check"
USAGE = f"""\
usage: {TRAIN_ARGUMENT.value} [{CHECK}]

Runs the training program of this container, as SageMaker starts it: with the argument
{TRAIN_ARGUMENT.value!r}, or with none. The job is described by the files under /opt/ml/input.
{CHECK} starts nothing, and reports whether a job could run here.
{NPROC}=gpu starts one process for each GPU, over all hosts of the job.
{STOP_GRACE} sets how many seconds the program has to end after SIGTERM.
"""


def main() -> int:
    """Run the training job of this container; return the exit code of the process."""
    arguments = sys.argv[1:]
    if arguments[:1] == [TRAIN_ARGUMENT.value]:
        arguments = arguments[1:]
    # Absolute, because the start of the program changes the working folder.
    tree = Tree(Tree.from_environ(os.environ).root.absolute())
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
    """Run the job; turn every error into a verdict, because a job must end with a reason."""
    try:
        with suppress(OSError):  # if it can't be removed, _leave_reason reports it
            tree.failure.unlink(missing_ok=True)  # the reason of an earlier run in the same tree
        return run_job(tree, signals, writer)
    except ContractError as error:
        writer.say(str(error))
        return Verdict(ExitCode.BAD_INPUT, str(error), FLUSH_SECONDS_STOPPING)
    except Exception as error:  # noqa: BLE001 - see above
        import traceback  # noqa: PLC0415 - only our own defects need it

        writer.say_text(traceback.format_exc())
        reason = f"internal error of the training supervisor: {type(error).__name__}: {error}"
        return Verdict(ExitCode.INTERNAL, reason, FLUSH_SECONDS_STOPPING)


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
    """Undo what the program did to the folder, and move aside what is in the file's place."""
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
    """Return the text of the file that a link in the failure file's place leads to; else ""."""
    if not (path.is_symlink() and path.is_file()):
        return ""
    with open(path, "rb") as file:
        return file.read(FAILURE_REASON.value).decode("utf-8", "replace")


def run_job(tree: Tree, signals: SignalQueue, writer: Writer) -> Verdict:
    """Run the job; raise ContractError for anything that keeps the program from starting.

    Only the jobs that need them import the rarer modules: a plain program must not wait for those.
    """
    run = JobRun(tree, signals, writer)
    run.announce()
    run.check_gpus()
    if len(run.job.cluster.hosts) > 1 and has_named_hosts(run.job):
        _wait_for_hosts(run)
    if stop := signals.stop():
        return run.stopped_early(stop)
    if run.plan.settings.flag(INSTALL_REQUIREMENTS) and (failed := _install(run)):
        return failed
    if run.plan.settings.asks_for_ranks or run.plan.settings.text(HANG_SECONDS):
        from sagemaker_byoc.training.supervisor.ranks.group import run_group  # noqa: PLC0415

        return run_group(run)
    return run.judge(run.supervisor().run([run.plan.program]))


def _wait_for_hosts(run: JobRun) -> None:
    seconds = run.plan.settings.seconds(DNS_SECONDS, DEFAULT_SECONDS)
    if seconds:
        run.addresses = wait_for_hosts(
            run.job.cluster.hosts, seconds, is_stopped=lambda: run.signals.stop() is not None
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
