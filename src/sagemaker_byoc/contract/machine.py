"""CPUs, memory and GPUs that this container may use, as both images count them.

No program is started to find out: `nvidia-smi` takes a tenth of a second, and some images lack it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")
NVIDIA_PROC = Path("/proc/driver/nvidia/gpus")
DRIVER = Path("/proc/driver/nvidia/version")
"""Version of the NVIDIA driver; every container on its host sees this file."""
DEVICES = Path("/dev")
CUDA_DEVICES = "CUDA_VISIBLE_DEVICES"

_NO_GPUS = frozenset({"none", "NoDevFiles"})
_UNSAID = frozenset({"", "void", "all"})
_NAMES = ("GPU-", "MIG-")
_MANY = 1024
_ORDINAL = re.compile(r"\s*\+?(\d+)")
_MEMORY_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "memory.stat",
        "total_inactive_file",
    ),
)
"""Limit, use, statistics, and the part of the use that is only cache: version 2, version 1."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the host offers to this container, in whole units."""

    cpus: int
    gpus: int
    neurons: int = 0


def find_hardware(environ: Mapping[str, str]) -> Hardware:
    return Hardware(cpus=usable_cpus(), gpus=len(visible_gpus(environ)))


# ── CPUs ──


def usable_cpus(mount: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
    """Return the CPUs this process may run on, or the quota, rounded up, if that is less."""
    allowed = len(os.sched_getaffinity(0))
    quota = cpu_quota(mount, membership)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(mount: Path = CGROUP, membership: Path = MEMBERSHIP) -> float | None:
    """Return how many CPUs the tightest limit above this process allows; None without a limit."""
    limits = [
        *(_words(folder / "cpu.max") for folder in _ancestry(mount, membership, "")),
        *(
            _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
            for folder in _ancestry(mount / "cpu", membership, "cpu")
        ),
    ]
    return min((ratio for words in limits if (ratio := _ratio(words)) is not None), default=None)


def _ratio(words: list[str]) -> float | None:
    """quota/period; `max` and -1 mean no limit."""
    if len(words) != 2 or not all(word.isdecimal() for word in words) or words[1] == "0":
        return None
    return int(words[0]) / int(words[1])


# ── memory ──


def usable_memory(mount: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
    """Return the bytes of the machine, or of the tightest control group if that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = (_number(folder / names[0]) for folder, names in _memory_groups(mount, membership))
    return min([total, *(limit for limit in limits if limit is not None)])


def free_memory(
    mount: Path = CGROUP, membership: Path = MEMBERSHIP, meminfo: Path = MEMINFO
) -> int:
    """Return the bytes that another process may take: what the machine and every limit leave.

    Unused files in the page cache count as free: the kernel drops them.
    """
    free = _machine_free(meminfo)
    for folder, (limit, use, stat, cache) in _memory_groups(mount, membership):
        most, now = _number(folder / limit), _number(folder / use)
        if most is not None and now is not None:
            words = _words(folder / stat)
            free = min(free, most - now + _number_after(cache, words))
    return max(0, free)


def oom_kills(mount: Path = CGROUP, membership: Path = MEMBERSHIP) -> int:
    """Return how often the kernel has killed a process of this control group to free memory."""
    for folder in _ancestry(mount, membership, ""):
        words = _words(folder / "memory.events")
        if words:
            return _number_after("oom_kill", words)
    for folder in _ancestry(mount / "memory", membership, "memory"):
        words = _words(folder / "memory.oom_control")
        if words:
            return _number_after("oom_kill", words)
    return 0


def _memory_groups(
    mount: Path, membership: Path
) -> Iterator[tuple[Path, tuple[str, str, str, str]]]:
    version_2, version_1 = _MEMORY_FILES
    for folder in _ancestry(mount, membership, ""):
        yield folder, version_2
    for folder in _ancestry(mount / "memory", membership, "memory"):
        yield folder, version_1


def _machine_free(meminfo: Path) -> int:
    """Return what the kernel calls MemAvailable."""
    words = _words(meminfo)
    if "MemAvailable:" in words:
        return _number_after("MemAvailable:", words) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


# ── GPUs ──


def visible_gpus(
    environ: Mapping[str, str], proc: Path = NVIDIA_PROC, devices: Path = DEVICES
) -> tuple[str, ...]:
    """Return the names, for CUDA_VISIBLE_DEVICES, of the GPUs that a CUDA program will see."""
    names = _handed_over(environ.get("NVIDIA_VISIBLE_DEVICES", ""), _present(proc, devices))
    listed = environ.get(CUDA_DEVICES)
    if listed is None or not names:
        return names
    return _listed(listed, len(names))


def hides_gpus(environ: Mapping[str, str]) -> bool:
    """Return whether the environment says that no GPU is to be used, however many there are."""
    listed = environ.get(CUDA_DEVICES)
    handed_over = environ.get("NVIDIA_VISIBLE_DEVICES", "").strip()
    return handed_over in _NO_GPUS or (listed is not None and not _listed(listed, _MANY))


def _present(proc: Path, devices: Path) -> int:
    """Return how many GPUs have a device file, without which CUDA can't open one.

    The driver's list is that of the whole machine in a container that was given no GPUs.
    """
    files = sum(path.name[6:].isdecimal() for path in devices.glob("nvidia[0-9]*"))
    listed = len(list(proc.iterdir())) if proc.is_dir() else 0
    return min(listed, files) if listed else files


def _handed_over(value: str, present: int) -> tuple[str, ...]:
    """Return those of the present GPUs that NVIDIA_VISIBLE_DEVICES allows.

    The container's runtime has read it already, so it can only say less than the device files.
    Empty and `void` mean nothing: Kubernetes writes `void` if it passes GPUs in another way.
    """
    value = value.strip()
    if value in _NO_GPUS or not present:
        return ()
    if value in _UNSAID:
        return tuple(map(str, range(present)))
    names = [name.strip() for name in value.split(",")]
    if all(name.startswith("MIG-") for name in names):  # slices of a GPU, each with its own name
        return tuple(dict.fromkeys(names))
    count = len({name for name in names if name})
    return tuple(map(str, range(min(count, present))))


def _listed(value: str, present: int) -> tuple[str, ...]:
    """Return the GPUs of a CUDA_VISIBLE_DEVICES, as the driver reads it.

    Source: CUDA C++ programming guide, environment variables; torch.cuda's reading of the same
    variable. What follows the first invalid entry is ignored, and an entry that comes twice leaves
    nothing. The list is of numbers, or of GPU-… or MIG-… names, as its first entry is; blanks are
    allowed before a number only.
    """
    entries = value.split(",")
    prefix = next((each for each in _NAMES if entries[0].startswith(each)), "")
    found: list[str] = []
    for entry in entries:
        name = _valid(entry, prefix, present)
        if name is None:
            break
        if name in found:
            return ()
        found.append(name)
    # A GPU can be cut into several MIG instances; of whole ones there are as many as are present.
    return tuple(found if prefix == "MIG-" else found[:present])


def _valid(entry: str, prefix: str, present: int) -> str | None:
    if prefix:
        return entry if entry.startswith(prefix) else None
    number = _ORDINAL.match(entry)
    return str(int(number[1])) if number and int(number[1]) < present else None


# ── control groups: both versions; a missing file means no limit ──


def _ancestry(mount: Path, membership: Path, controller: str) -> Iterator[Path]:
    """Yield this process's folder under `mount`, then each above it, up to `mount` itself."""
    folder = mount / _path_of(membership, controller).lstrip("/")
    # Without its own cgroup namespace, a container sees the host's path, which is not mounted.
    while folder != mount and folder.is_relative_to(mount):
        if folder.is_dir():
            yield folder
        folder = folder.parent
    yield mount


def _path_of(membership: Path, controller: str) -> str:
    """Return the path in a line `id:controllers:path`; version 2 has no controllers in its line."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return "" if ".." in path else path
    return ""


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if words and words[0].isdecimal() else None


def _number_after(key: str, words: list[str]) -> int:
    if key not in words[:-1]:
        return 0
    number = words[words.index(key) + 1]
    return int(number) if number.isdecimal() else 0
