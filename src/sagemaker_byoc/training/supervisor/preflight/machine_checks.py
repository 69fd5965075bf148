"""What the machine and the container offer: GPUs and driver, memory to share, disk, clock."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import time

from sagemaker_byoc.contract.accelerators import OLDEST_DRIVER
from sagemaker_byoc.contract.gpu import driver_version, find_torch, shown
from sagemaker_byoc.contract.machine import find_hardware
from sagemaker_byoc.contract.paths import Tree
from sagemaker_byoc.training.supervisor.plan import why_not_writable

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - it is looked at, not written to
LITTLE_SHARED_MEMORY = 2**30
LITTLE_DISK = 5 * 2**30
NO_DISK = 100 * 2**20
YEAR_OF_THIS_FILE = 2026
SECONDS_OF_A_YEAR = 365.25 * 24 * 3600


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


def machine(environ: Mapping[str, str], root: Path = Path("/")) -> Iterator[Finding]:
    torch = find_torch()
    cuda = torch.cuda if torch else None
    gpus = find_hardware(environ).gpus
    yield gpu(gpus, cuda)
    if gpus and cuda:
        yield driver(driver_version(root), cuda)
    yield shared_memory(root / SHARED_MEMORY[1:], gpus)
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
    """Whether it is new enough is `checks_job.unused_gpus`'s finding."""
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
    hint = "docker run --shm-size=2g; or use no data-loader workers"
    return Finding(
        level, SHARED_MEMORY, f"{found}: data-loader workers may end with a bus error", hint
    )


def disk(folder: Path) -> Finding:
    free = free_bytes(folder)
    found = f"writable, {free / 2**30:.1f} GiB free"
    hint = "Raise VolumeSizeInGB"
    if free < NO_DISK:
        return Finding(Level.FAIL, str(folder), found, hint)
    return Finding(Level.WARN if free < LITTLE_DISK else Level.OK, str(folder), found, hint)


def clock(now: float) -> Finding:
    """A clock before this program was written makes every TLS connection fail."""
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
