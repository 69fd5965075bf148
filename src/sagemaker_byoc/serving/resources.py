"""What this container may use: CPUs by affinity and cgroup quota, memory, and visible GPUs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
DEVICES = Path("/dev")
MEMINFO = Path("/proc/meminfo")
CGROUP_MEMORY = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)
"""Limit, use, statistics, and what of the use is only cache: v2, v1."""


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


def free_memory(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Bytes that another process may take: what the machine has, or less if the cgroup's limit
    leaves less. Files in the page cache that nobody uses count as free: the kernel drops them."""
    free = _machine_free(meminfo)
    for limit, used, stat, cached in CGROUP_MEMORY:
        most, now = _text(cgroup / limit), _text(cgroup / used)
        if most.isdigit() and now.isdigit():
            spare = dict(line.split() for line in _text(cgroup / stat).splitlines())
            free = min(free, int(most) - int(now) + int(spare.get(cached, 0)))
    return max(0, free)


def _machine_free(meminfo: Path) -> int:
    for line in _text(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


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
