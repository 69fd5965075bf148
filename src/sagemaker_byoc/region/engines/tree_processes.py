"""The processes that live in a tree: they see it as /opt/ml, or were told that it is theirs.

That is what a container of the process engine is, and it outlives the process that started it: no
pid file can be stale, and no foreign process can be meant.
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
"""A process that has ended, or is another user's."""
"""Variable of a process: the command that started it, as `owners.me` names it."""
_PROC = Path("/proc")
_SECONDS = 10.0
_PAUSE = 0.01


def find(tree: Tree) -> Iterator[int]:
    """Process ids; those of other users, whom we may not end either, are passed over."""
    try:
        place = tree.root.stat()
    except FileNotFoundError:
        return
    inside = DEFAULT_ROOT.relative_to("/")
    # Where the tree is this machine's own /opt/ml, to see it there says nothing of a process.
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
    """SIGKILL all of them, and those that they start meanwhile; how many there were. Bounded."""
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
    """SIGKILL all orphans; how many there were."""
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
