"""The processes of a tree: those that see it as /opt/ml, or have it as SAGEMAKER_BASE_DIR.

They are what a container of the process engine consists of, and may outlive the process that
started them. There is no pid file that could be stale, and no other process is mistaken for one.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from sagemaker_byoc.contract.paths import DEFAULT_ROOT, Tree
from sagemaker_byoc.contract.variables import BASE_DIR, REGION_OWNER
from sagemaker_byoc.host import owners

_PASSED_OVER = (FileNotFoundError, ProcessLookupError, NotADirectoryError, PermissionError)
"""Raised for a process that has ended, or belongs to another user."""
"""Variable of a process: the command that started it, as `owners.me` names it."""
_PROC = Path("/proc")
_SECONDS = 10.0
_PAUSE = 0.01


def find(tree: Tree) -> Iterator[int]:
    """Yield the process ids; those of other users, which we may not end, are skipped."""
    try:
        place = tree.root.stat()
    except FileNotFoundError:
        return
    inside = DEFAULT_ROOT.relative_to("/")
    # If the tree is this machine's own /opt/ml, every process sees it there.
    is_hosts_own = _is_same(DEFAULT_ROOT, place)
    moved = f"{BASE_DIR}={tree.root}".encode()
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(*_PASSED_OVER):
            if moved in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)
                continue
        if not is_hosts_own and _is_same(entry / "root" / inside, place):
            yield int(entry.name)


def end(tree: Tree) -> int:
    """SIGKILL all of them, and those that they start meanwhile, within 10 s; return the number."""
    return _end(lambda: find(tree))


def orphans() -> Iterator[int]:
    """Yield processes of this user whose REGION_OWNER has ended, and those in the same trees."""
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(*_PASSED_OVER):
            if entry.stat().st_uid != os.geteuid():
                continue
            for variable in (entry / "environ").read_bytes().split(b"\0"):
                name, _, value = variable.partition(b"=")
                if name == REGION_OWNER.encode() and owners.is_dead(value.decode(errors="replace")):
                    yield int(entry.name)
                    yield from find(Tree(entry / "root" / DEFAULT_ROOT.relative_to("/")))


def end_orphans() -> int:
    """SIGKILL all orphans; return the number."""
    return _end(orphans)


def _end(look: Callable[[], Iterator[int]]) -> int:
    deadline = time.monotonic() + _SECONDS
    ended: set[int] = set()
    while time.monotonic() < deadline:
        alive = {pid for pid in look() if not _is_zombie(pid)}
        if not alive:
            break
        for pid in alive:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended |= alive
        time.sleep(_PAUSE)
    return len(ended)


def _is_same(path: Path, place: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), place)
    except _PASSED_OVER:
        return False


def _is_zombie(pid: int) -> bool:
    try:
        status = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(b")")[2].split()[0] == b"Z"
