"""What this container may use: CPUs by affinity and cgroup quota, memory, and visible GPUs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
DEVICES = Path("/dev")


def usable_cpus(cgroup: Path = CGROUP) -> int:
    """Whole CPUs that can run at once; a container sees the host's count in os.cpu_count()."""
    allowed = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """CPUs' worth of time a period, from cgroup v2 or v1; None where unlimited."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        limit = _text(cgroup / "cpu" / "cpu.cfs_quota_us")
        period = _text(cgroup / "cpu" / "cpu.cfs_period_us")
    if not (limit.isdigit() and period.isdigit() and int(period)):
        return None  # "max" in v2, -1 in v1
    return int(limit) / int(period)


def usable_memory(cgroup: Path = CGROUP) -> int:
    """Bytes: the machine's, or the cgroup's limit where that is lower."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # v2, v1
        limit = _text(cgroup / name)
        if limit.isdigit():
            return min(total, int(limit))
    return total


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def visible_gpus(environ: Mapping[str, str], devices: Path = DEVICES) -> tuple[str, ...]:
    """Names for CUDA_VISIBLE_DEVICES, one a GPU: those listed there, else all."""
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return tuple(name for name in (part.strip() for part in listed.split(",")) if name)
    found = sum(1 for path in devices.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name))
    return tuple(str(index) for index in range(found))
