"""The state folder of a region: its owner, its lock, and the address of the running region."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from sagemaker_byoc.contract import folders
from sagemaker_byoc.contract.errors import DocumentError, MachineError
from sagemaker_byoc.contract.files import read_object, write_json

ADDRESS_FILE = "region.json"
LOG_FILE = "region.log"
_LOCK_FILE = ".lock"
TEMPORARY_PREFIX = "byoc-region-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The content of STATE/region.json, while a region has the folder."""

    url: str
    pid: int
    engine: str


def default_state() -> Path:
    """Return $XDG_DATA_HOME/sagemaker-byoc/default."""
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
            f"the state folder {state} is shared with other users",
            hint="Name a folder of your own with --state",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        state.chmod(0o700)


def read_address(state: Path) -> Address | None:
    """Return the address, or None if no region has the folder or its process was killed.

    Raise MachineError if that can't be seen.
    """
    if not _is_folder(state):
        return None
    try:
        document = read_object(state / ADDRESS_FILE)
    except DocumentError as error:
        if isinstance(error.__cause__, OSError):
            raise _unseen(state, error.__cause__) from error
        return None
    if document is None or not is_locked(state):
        return None
    match document:
        case {"url": str(url), "pid": int(pid), "engine": str(engine)}:
            return Address(url=url, pid=pid, engine=engine)
    return None


def is_locked(state: Path) -> bool:
    """Return whether a process has the folder now; the lock ends with its process.

    Raise MachineError if that can't be seen.
    """
    try:
        file = open(state / _LOCK_FILE, "rb")  # noqa: SIM115 - closed below
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unseen(state, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def read_identity(state: Path) -> str:
    """Return the random name that tells this folder from others of its path; "" if it has none.

    Raise MachineError if that can't be seen.
    """
    try:
        return (state / _LOCK_FILE).read_text("utf-8", "replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise _unseen(state, error) from error


def identity(state: Path) -> str:
    """Return the folder's random name, making it first if there is none.

    For the process that has the folder.
    """
    found = read_identity(state)
    if not found:
        found = secrets.token_hex(8)
        (state / _LOCK_FILE).write_text(found)  # writing keeps the file that is locked
    return found


def _is_folder(state: Path) -> bool:
    try:
        return stat.S_ISDIR(state.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unseen(state, error) from error


def _unseen(state: Path, error: OSError) -> MachineError:
    return MachineError(
        f"cannot determine whether a region runs in {state} ({error.strerror})",
        hint="Ask as the user who owns the region, or name another --state",
    )


class StateFolder:
    """A folder that this process holds until `close`; a temporary one without a path."""

    def __init__(self, path: Path | None) -> None:
        """Raise MachineError if another region has it, or it can't be made."""
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
                hint="Name one that can be written with --state",
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            identity(self.path)
        except BlockingIOError:
            self._lock.close()
            other = read_address(self.path)
            where = "that is starting or ending" if other is None else f"at {other.url}"
            raise MachineError(
                f"{self.path} belongs to the region {where}",
                hint="Use that one, end it with `byoc local down`, or name another --state",
            ) from None
        except OSError as error:
            self._lock.close()
            raise MachineError(
                f"the state folder {self.path} can't be written ({error.strerror})",
                hint="Make room, or name another --state",
            ) from error

    def announce(self, address: Address) -> None:
        write_json(self.path / ADDRESS_FILE, asdict(address))

    def close(self) -> None:
        """Give the folder up, and remove it if it is temporary. Idempotent."""
        if self._lock.closed:
            return
        with contextlib.suppress(FileNotFoundError):
            (self.path / ADDRESS_FILE).unlink()
        self._lock.close()
        if self._temporary:
            folders.remove(self.path)
