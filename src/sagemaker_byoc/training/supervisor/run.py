"""The steps of one job, from its files to its verdict."""

from __future__ import annotations

from signal import Signals

from sagemaker_byoc.contract.lifecycle import exit_code_of
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.training.supervisor.job_run import FLUSH_SECONDS, JobRun, Verdict
from sagemaker_byoc.training.supervisor.process.signals import STOP, SignalQueue
from sagemaker_byoc.training.supervisor.process.writer import Writer
from sagemaker_byoc.training.supervisor.ranks.outside import has_named_hosts
from sagemaker_byoc.training.supervisor.settings import (
    DNS_SECONDS,
    HANG_SECONDS,
    INSTALL_REQUIREMENTS,
    REPLACE,
)


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
