"""What the job declares, compared with what is there: program, channels, hosts."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.gpu import find_trouble
from sagemaker_byoc.contract.training.channels import Channel, InputMode
from sagemaker_byoc.contract.training.job import Job
from sagemaker_byoc.training.supervisor.plan import make_plan
from sagemaker_byoc.training.supervisor.preflight.machine_checks import Finding, Level
from sagemaker_byoc.training.supervisor.ranks.hosts import wait_for_hosts
from sagemaker_byoc.training.supervisor.ranks.network import has_interface
from sagemaker_byoc.training.supervisor.ranks.outside import has_named_hosts
from sagemaker_byoc.training.supervisor.settings import ALLOW_CPU, DNS_SECONDS, Settings

HOST_SECONDS = 5.0


def program(job: Job, environ: Mapping[str, str]) -> Finding:
    submitted = job.hyperparameters.text("sagemaker_submit_directory") or ""
    if submitted.startswith("s3://"):
        return Finding(Level.OK, "program", f"in {submitted}, which is not fetched for this check")
    try:
        plan = make_plan(job, environ)
    except ContractError as error:
        return Finding(Level.FAIL, "program", error.sentence, error.hint)
    return Finding(Level.OK, "program", f"{plan.entry} from {plan.source.folder}")


def unused_gpus(job: Job, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what the job's log would say of GPUs at its start."""
    trouble = find_trouble(environ, job.cluster.current_instance_type)
    if trouble is not None:
        is_failure = trouble.is_fatal and not Settings(job.hyperparameters, environ).flag(ALLOW_CPU)
        level = Level.FAIL if is_failure else Level.WARN
        yield Finding(level, "GPU", trouble.what, trouble.hint)


def channels(job: Job) -> Iterator[Finding]:
    for name, channel in job.channels.items():
        problem, found = _look(job, name, channel)
        level = Level.WARN if problem else Level.OK
        yield Finding(level, f"channel {name!r}", problem or found, "Check its S3 address")


def hosts(job: Job, environ: Mapping[str, str]) -> Iterator[Finding]:
    cluster = job.cluster
    if len(cluster.hosts) == 1 or not has_named_hosts(job):
        return
    seconds = Settings(job.hyperparameters, environ).seconds(DNS_SECONDS, HOST_SECONDS)
    try:
        wait_for_hosts(cluster.hosts, seconds, is_stopped=lambda: False)
    except ContractError as error:
        yield Finding(Level.FAIL, "hosts", f"{error.where} {error.what}", error.hint)
    else:
        yield Finding(Level.OK, "hosts", f"all {len(cluster.hosts)} have an address")
    if not has_interface(cluster.network_interface):
        found = f"{cluster.network_interface!r} does not exist here; NCCL chooses one itself"
        yield Finding(Level.WARN, "interface", found)


def _look(job: Job, name: str, channel: Channel) -> tuple[str, str]:
    """What is wrong with it, or what there is."""
    if channel.mode is InputMode.PIPE:
        return _look_at_pipe(job, name)
    folder = job.tree.channel(name)
    try:
        mode = folder.stat().st_mode
        if stat.S_ISFIFO(mode):
            return f"{folder} is a FIFO, and {channel.mode.value} mode was declared", ""
        first = next(folder.iterdir(), None)
    except OSError as error:
        return f"{folder} can't be read ({error.strerror})", ""
    return ("", f"{channel.mode.value}, has data") if first else (f"{folder} is empty", "")


def _look_at_pipe(job: Job, name: str) -> tuple[str, str]:
    pipe = job.tree.pipe(name, 0)
    try:
        is_fifo = stat.S_ISFIFO(pipe.stat().st_mode)
    except OSError:
        if job.tree.channel(name).is_dir():
            return f"{job.tree.channel(name)} is a folder, and Pipe mode was declared", ""
        return f"{pipe} is not there yet", ""
    return ("", "Pipe, its FIFO is there") if is_fifo else (f"{pipe} is no FIFO", "")
