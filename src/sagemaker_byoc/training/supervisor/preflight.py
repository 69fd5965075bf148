"""`train --check`: print one finding per line on whether a job could run here; start nothing."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import time

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.gpu import (
    OLDEST_DRIVER,
    driver_version,
    find_torch,
    find_trouble,
    shown,
)
from sagemaker_byoc.contract.machine import find_hardware
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.contract.training.channels import Channel, InputMode
from sagemaker_byoc.contract.training.job import Job
from sagemaker_byoc.contract.variables import ALLOW_CPU, DNS_SECONDS
from sagemaker_byoc.training.supervisor.plan import Settings, make_plan, why_not_writable
from sagemaker_byoc.training.supervisor.ranks.hosts import has_named_hosts, read_job, wait_for_hosts
from sagemaker_byoc.training.supervisor.ranks.network import has_interface

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - nothing is written there
LITTLE_SHARED_MEMORY = 2**30
LITTLE_DISK = 5 * 2**30
NO_DISK = 100 * 2**20
YEAR_OF_THIS_FILE = 2026
SECONDS_OF_A_YEAR = 365.25 * 24 * 3600
HOST_SECONDS = 5.0


def check(tree: Tree, environ: Mapping[str, str]) -> int:
    """Print the findings; return 0 if nothing would keep a job from running, else 1."""
    failed = 0
    for finding in _findings(tree, environ):
        failed += finding.level is Level.FAIL
        sys.stdout.write(f"{finding}\n")
    return 1 if failed else 0


def _findings(tree: Tree, environ: Mapping[str, str]) -> Iterable[Finding]:
    yield from machine(environ)
    yield from places(tree)
    try:
        job = read_job(tree, environ)
    except ContractError as error:
        yield Finding(Level.FAIL, "configuration", error.sentence, error.hint)
        return
    yield from unused_gpus(job, environ)
    yield program(job, environ)
    yield from channels(job)
    yield from hosts(job, environ)


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    what: str
    found: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f". {self.hint}" if self.hint and self.level is not Level.OK else ""
        return f"{self.level:<4} {self.what}: {self.found}{hint}"


def machine(environ: Mapping[str, str]) -> Iterator[Finding]:
    torch = find_torch()
    cuda = torch.cuda if torch else None
    gpus = find_hardware(environ).gpus
    yield gpu(gpus, cuda)
    if gpus and cuda:
        yield driver(driver_version(), cuda)
    yield shared_memory(Path(SHARED_MEMORY), gpus)
    yield clock(time())


def places(tree: Tree) -> Iterator[Finding]:
    for folder in tree.written_by_training:
        problem = why_not_writable(folder)
        if problem:
            hint = "Mount it writable and owned by the container's user"
            yield Finding(Level.FAIL, str(folder), problem, hint)
        else:
            yield disk(folder)


def gpu(gpus: int, cuda: tuple[int, int] | None) -> Finding:
    if gpus:
        return Finding(Level.OK, "GPU", f"{gpus} GPUs")
    if cuda:
        hint = "Start the container with --gpus all, on an instance that has some"
        return Finding(Level.WARN, "GPU", "none visible, and torch was built for CUDA", hint)
    return Finding(Level.OK, "GPU", "none, and none is expected: torch is a CPU build")


def driver(version: tuple[int, int] | None, cuda: tuple[int, int]) -> Finding:
    """Return both versions; `unused_gpus` finds out whether the driver is new enough."""
    found = f"{shown(version) if version else 'unknown'}, torch's CUDA is {shown(cuda)}"
    if version is None or cuda[0] not in OLDEST_DRIVER.value:
        return Finding(Level.WARN, "driver", found, "Compare them with NVIDIA's table")
    return Finding(Level.OK, "driver", found)


def shared_memory(folder: Path, gpus: int) -> Finding:
    size = free_bytes(folder, total=True)
    found = f"{size // 2**20} MiB"
    if size >= LITTLE_SHARED_MEMORY:
        return Finding(Level.OK, SHARED_MEMORY, found)
    level = Level.WARN if size or not gpus else Level.FAIL
    found += ": data-loader workers may end with a bus error"
    hint = "docker run --shm-size=2g; or use no data-loader workers"
    return Finding(level, SHARED_MEMORY, found, hint)


def disk(folder: Path) -> Finding:
    free = free_bytes(folder)
    found = f"writable, {free / 2**30:.1f} GiB free"
    hint = "Raise VolumeSizeInGB"
    if free < NO_DISK:
        return Finding(Level.FAIL, str(folder), found, hint)
    return Finding(Level.WARN if free < LITTLE_DISK else Level.OK, str(folder), found, hint)


def clock(now: float) -> Finding:
    """Report a clock that is behind the date of this program: TLS fails then."""
    year = 1970 + int(now / SECONDS_OF_A_YEAR)
    if year < YEAR_OF_THIS_FILE:
        hint = "Set the machine's clock: certificates are not valid yet"
        return Finding(Level.FAIL, "clock", f"it says {year}", hint)
    return Finding(Level.OK, "clock", f"it says {year}")


def free_bytes(folder: Path, *, total: bool = False) -> int:
    try:
        space = os.statvfs(folder)
    except OSError:
        return 0
    return space.f_frsize * (space.f_blocks if total else space.f_bavail)


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
    """Yield what the job's log would say about GPUs at its start."""
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
    """Return what is wrong with the channel, and what was found if nothing is."""
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
    return ("", "Pipe, its FIFO is there") if is_fifo else (f"{pipe} is not a FIFO", "")
