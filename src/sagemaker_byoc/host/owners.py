"""The process that made a container or a folder, so that what it left can be found after kill -9.

A process is identified by its id, its start time, its PID namespace and the start of its kernel: a
process id alone is used again.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LABEL = "sagemaker-byoc.owner"
"""Label of a container or network: the identity of the command that made it."""

_FOLDER = re.compile(r"byoc-[a-z]+-(?P<owner>\d+\.\d+\.\d+\.[0-9a-f-]+)-[^-]+")
_PROC = Path("/proc")
_PARTS = 4
_START = 19
"""Place of the start time (field 22 of proc_pid_stat(5)) after the name in parentheses."""


def me() -> str:
    """Return the identity of this process; empty on systems without /proc."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        space = (_PROC / "self/ns/pid").stat().st_ino
        return f"{os.getpid()}/{_start_time(os.getpid())}/{space}/{boot}"
    except OSError:
        return ""


def is_dead(identity: str) -> bool:
    """Return True only if it is certain: a process of another kernel or namespace can't be seen."""
    parts, mine = identity.split("/"), me().split("/")
    if len(parts) != _PARTS or len(mine) != _PARTS or parts[2:] != mine[2:]:
        return False
    pid, start, *_ = parts
    if not pid.isdecimal():
        return False
    try:
        return _start_time(int(pid)) != start
    except FileNotFoundError:
        return True
    except OSError:
        return False


def as_name(identity: str) -> str:
    """Return an identity as a part of a file's name or of a tag."""
    return identity.replace("/", ".")


def of_name(name: str) -> str:
    return name.replace(".", "/")


def make_folder(purpose: str) -> Path:
    """Make a temporary folder, which `dead_folders` yields once this process has ended."""
    return Path(tempfile.mkdtemp(prefix=f"byoc-{purpose}-{as_name(me())}-"))


def dead_folders() -> Iterator[Path]:
    """Yield the temporary folders of this user's processes that have ended."""
    for folder in Path(tempfile.gettempdir()).glob("byoc-*"):
        found = _FOLDER.fullmatch(folder.name)
        if found is None or not is_dead(of_name(found["owner"])):
            continue
        with suppress(OSError):
            if folder.lstat().st_uid == os.geteuid() and not folder.is_symlink():
                yield folder


def _start_time(pid: int) -> str:
    """Return the start of a process, in ticks since boot. Raise OSError if it has ended."""
    try:
        status = (_PROC / str(pid) / "stat").read_bytes()
    except ProcessLookupError as error:  # it ended while the file was open
        raise FileNotFoundError(pid) from error
    fields = status.rpartition(b")")[2].split()
    if fields[0] == b"Z":
        raise FileNotFoundError(pid)
    return fields[_START].decode()
