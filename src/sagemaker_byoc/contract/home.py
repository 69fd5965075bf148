"""A home folder and a name for a user who has neither, as with `docker run --user 1234`.

Docker gives such a user HOME=/, where caches (Hugging Face, matplotlib, numba, pip) can't be
written; and without an entry in /etc/passwd `getpass.getuser()` raises.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

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
