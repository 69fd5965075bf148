"""The folder of a region: whose it is, and where the region that has it answers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from sagemaker_byoc.contract.errors import DocumentError
from sagemaker_byoc.contract.files import read_object, write_json
from sagemaker_byoc.local.errors import MachineError

ADDRESS_FILE = "region.json"
LOG_FILE = "region.log"
_LOCK_FILE = ".lock"
TEMPORARY_PREFIX = "byoc-region-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What STATE/region.json says, while a region has the folder."""

    url: str
    pid: int
    engine: str


def default_state() -> Path:
    """$XDG_DATA_HOME/sagemaker-byoc/default."""
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home, "sagemaker-byoc", "default")


def make_private(state: Path) -> None:
    """Make the folder, or take it over, readable for its owner alone: it holds keys and data.

    Raise MachineError if it is a folder that other users share, OSError if it can't be made.
    """
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = state.stat()
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
        raise MachineError(
            f"the state folder {state} is not yours alone",
            cure="Name a folder of your own with --state",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        state.chmod(0o700)


def read_address(state: Path) -> Address | None:
    """None where no region has the folder, or it was killed."""
    try:
        document = read_object(state / ADDRESS_FILE)
    except DocumentError:
        return None
    if document is None or not is_locked(state):
        return None
    match document:
        case {"url": str(url), "pid": int(pid), "engine": str(engine)}:
            return Address(url=url, pid=pid, engine=engine)
    return None


def is_locked(state: Path) -> bool:
    """Whether a process has the folder now; the lock of one that was killed is gone with it."""
    try:
        file = open(state / _LOCK_FILE, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class StateFolder:
    """Made, and held by this process alone, until `close`. Without a path: a temporary one."""

    def __init__(self, path: Path | None) -> None:
        """Raises MachineError where another region has it, or it can't be made."""
        self._temporary = path is None
        try:
            self.path = (
                Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX)) if path is None else path.resolve()
            )
            make_private(self.path)
            self._lock: IO[bytes] = open(self.path / _LOCK_FILE, "ab")  # noqa: SIM115 - by close()
        except OSError as error:
            raise MachineError(
                f"the state folder {path} can't be made ({error.strerror})",
                cure="Name one that can be written with --state",
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            other = read_address(self.path)
            where = "that is starting or ending" if other is None else f"at {other.url}"
            raise MachineError(
                f"{self.path} belongs to the region {where}",
                cure="Use that one, end it with `byoc local down`, or name another --state",
            ) from None

    def announce(self, address: Address) -> None:
        write_json(self.path / ADDRESS_FILE, asdict(address))

    def close(self) -> None:
        """Idempotent. A temporary folder is removed with all that is in it."""
        if self._lock.closed:
            return
        with contextlib.suppress(FileNotFoundError):
            (self.path / ADDRESS_FILE).unlink()
        self._lock.close()
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)
