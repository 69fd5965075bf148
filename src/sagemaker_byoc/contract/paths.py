"""Folders of a container: the /opt/ml tree, and a home for a user who has none.

`Tree` is path arithmetic: it touches no file. Source: developer guide,
your-algorithms-training-algo-running-container and model-train-storage. `SAGEMAKER_BASE_DIR` moves
the whole tree, as sagemaker-training does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.contract.variables import BASE_DIR, PROGRAM_DIR

DEFAULT_ROOT = Path("/opt/ml")
DEFAULT_PROGRAM_DIR = Path("/opt/program")


@dataclass(frozen=True, slots=True)
class Tree:
    """The folders and files under one `root`, /opt/ml unless it was moved."""

    root: Path = DEFAULT_ROOT

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Tree:
        return cls(Path(environ.get(BASE_DIR) or DEFAULT_ROOT))

    def moved(self, path: str) -> Path:
        """Map a path below /opt/ml into this tree; return any other path unchanged."""
        given = Path(path)
        return self.root / given.relative_to(DEFAULT_ROOT) if self._has_moved(given) else given

    def _has_moved(self, path: Path) -> bool:
        return path.is_relative_to(DEFAULT_ROOT) and not path.is_relative_to(self.root)

    @property
    def input(self) -> Path:
        return self.root / "input"

    @property
    def config(self) -> Path:
        return self.input / "config"

    @property
    def hyperparameters_file(self) -> Path:
        return self.config / "hyperparameters.json"

    @property
    def input_data_config_file(self) -> Path:
        return self.config / "inputdataconfig.json"

    @property
    def resource_config_file(self) -> Path:
        return self.config / "resourceconfig.json"

    @property
    def data(self) -> Path:
        return self.input / "data"

    def channel(self, name: str) -> Path:
        """Return the folder of a File or FastFile channel."""
        return self.data / name

    def pipe(self, name: str, epoch: int) -> Path:
        """Return the FIFO of one epoch (from 0) of a Pipe channel."""
        return self.data / f"{name}_{epoch}"

    @property
    def code(self) -> Path:
        return self.root / "code"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def model_code(self) -> Path:
        """Handlers that travel inside a model archive (SDK convention)."""
        return self.model / "code"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def output(self) -> Path:
        return self.root / "output"

    @property
    def output_data(self) -> Path:
        return self.output / "data"

    @property
    def output_intermediate(self) -> Path:
        return self.output / "intermediate"

    @property
    def failure(self) -> Path:
        return self.output / "failure"

    @property
    def written_by_training(self) -> tuple[Path, ...]:
        """The folders that a training container may write and that must exist for it."""
        return (self.model, self.output_data, self.output_intermediate, self.checkpoints)


def baked_program_dir(environ: Mapping[str, str]) -> Path:
    """Return the folder of the program that the image was built with."""
    return Path(environ.get(PROGRAM_DIR) or DEFAULT_PROGRAM_DIR)


# ── the home folder ──

# `docker run --user 1234` gives such a user HOME=/, where caches (Hugging Face, matplotlib, numba,
# pip) can't be written; and without an entry in /etc/passwd `getpass.getuser()` raises.

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")
"""Read by `getpass.getuser()`, before /etc/passwd."""


def home_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return HOME and USER if those of `environ` can't be used; nothing if they can."""
    name, folder = _entry()
    found: dict[str, str] = {}
    if not _is_writable(environ.get("HOME", folder)):
        home = _temporary_home(environ)
        found |= {"HOME": home} if home else {}
    if not name and not any(map(environ.get, NAMES)):
        found |= dict.fromkeys(("USER", "LOGNAME"), f"uid-{os.getuid()}")
    return found


def _entry() -> tuple[str, str]:
    """Return the user's name and home of /etc/passwd, empty if there are none."""
    import pwd  # noqa: PLC0415 - there is none on Windows

    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return "", ""
    return entry.pw_name, entry.pw_dir


def _is_writable(folder: str) -> bool:
    """Return whether files can be made in `folder`, which need not exist yet."""
    if not os.path.isabs(folder):  # noqa: PTH117 - a path with NUL must not raise
        return False
    place = folder
    while not os.path.lexists(place):
        place = os.path.dirname(place)  # noqa: PTH120
    return os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK)  # noqa: PTH112


def _temporary_home(environ: Mapping[str, str]) -> str | None:
    """Return a folder of this user's own, made if need be; None if there is no place for one."""
    for parent in filter(None, (environ.get("TMPDIR"), "/tmp", "/var/tmp")):  # noqa: S108 - owner is checked
        folder = f"{parent}/byoc-home-{os.getuid()}"
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103
            status = os.lstat(folder)
        except OSError:
            continue
        is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
        if is_ours and os.access(folder, os.W_OK | os.X_OK):
            return folder
    return None
