"""What the container's control group allows and has seen: CPU quota, out-of-memory kills.

Both versions of the file system; a file that is not there means no limit and no news.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def cpu_quota(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> float | None:
    """How many CPUs the tightest limit above this process allows; None without a limit."""
    limits = [
        *(_words(folder / "cpu.max") for folder in _ancestry(mount, membership, "")),
        *(
            _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
            for folder in _ancestry(mount / "cpu", membership, "cpu")
        ),
    ]
    return min((ratio for words in limits if (ratio := _ratio(words)) is not None), default=None)


def oom_kills(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> int:
    """How often the kernel has killed a process of this control group for want of memory."""
    for folder in _ancestry(mount, membership, ""):
        words = _words(folder / "memory.events")
        if words:
            return _count(words)
    for folder in _ancestry(mount / "memory", membership, "memory"):
        words = _words(folder / "memory.oom_control")
        if words:
            return _count(words)
    return 0


def _ancestry(mount: Path, membership: Path, controller: str) -> Iterator[Path]:
    """This process's folder under `mount`, then each above it, up to `mount` itself."""
    folder = mount / _path_of(membership, controller).lstrip("/")
    # Without a namespace of its own a container sees the host's path here, and no such folder.
    while folder != mount and folder.is_relative_to(mount):
        if folder.is_dir():
            yield folder
        folder = folder.parent
    yield mount


def _path_of(membership: Path, controller: str) -> str:
    """The path in a line `id:controllers:path`; version 2 has no controllers in its line."""
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


def _ratio(words: list[str]) -> float | None:
    """quota/period; `max` and -1 mean no limit."""
    if len(words) != 2 or not all(word.isdecimal() for word in words) or words[1] == "0":
        return None
    return int(words[0]) / int(words[1])


def _count(words: list[str]) -> int:
    """The number after `oom_kill`."""
    if "oom_kill" not in words[:-1]:
        return 0
    number = words[words.index("oom_kill") + 1]
    return int(number) if number.isdecimal() else 0
