"""SQLite files of CloudWatch, which a killed region leaves readable."""

from __future__ import annotations

import errno
import logging
import sqlite3
import time
from pathlib import Path

LOG = logging.getLogger(__name__)

_SETTINGS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA journal_size_limit = 16777216;
"""
"""A committed transaction survives kill -9. A power failure may lose the last ones, and no more."""


_NUMBERS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}


def connect(path: Path, schema: str) -> sqlite3.Connection:
    """Open the file, making it with `schema` if it is missing.

    A file that SQLite can't read is kept beside it under another name, and a new one is begun: a
    region without its old metrics is better than none. The caller keeps threads apart.

    Raise OSError if there is no room, or the file can't be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _open(path, schema)
    except sqlite3.OperationalError as error:  # the file is not to blame
        number = _NUMBERS.get(error.sqlite_errorcode & 0xFF, errno.EIO)
        raise OSError(number, str(error), str(path)) from error
    except sqlite3.DatabaseError:
        kept = path.with_name(f"{path.name}.unreadable-{time.time_ns()}")
        path.replace(kept)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        LOG.exception("%s can't be read: it is kept as %s, and begun again", path, kept)
        return _open(path, schema)


def _open(path: Path, schema: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10.0)
    try:
        connection.executescript(_SETTINGS + schema)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class Transaction:
    """All of a block's writes, or none. Raise sqlite3.Error if they can't be written."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
