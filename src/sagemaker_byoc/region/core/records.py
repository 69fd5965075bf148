"""Documents by name, one JSON file each: what the region remembers across restarts.

A record is replaced as a whole, so a crash leaves the old one or the new one.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.files import write_atomically

LOG = logging.getLogger(__name__)

_TIME_KEY = "$time"


class Records:
    """All records of one kind, held in memory and written through to `folder`; thread-safe.

    Values are JSON, and aware datetimes. A name is a file's name: letters, digits, dots, hyphens.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        """Guards what is in memory; held for microseconds, since the event loop reads, too."""
        self._disk = threading.Lock()
        """Orders the changes; held while one is written. Taken before `_lock`."""
        self._unwritten: dict[str, bytes] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._documents: dict[str, dict[str, Any]] = {
            file.stem: _loads(file.read_bytes()) for file in sorted(folder.glob("*.json"))
        }

    def __contains__(self, name: str) -> bool:
        return name in self._documents

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(sorted(self._documents))

    def get(self, name: str) -> dict[str, Any] | None:
        """Return a copy that the caller may keep and change, or None."""
        with self._lock:
            document = self._documents.get(name)
            return None if document is None else _loads(_dumps(document))

    def put(self, name: str, document: dict[str, Any]) -> None:
        data = _dumps(document)
        with self._disk:
            write_atomically(self._folder / f"{name}.json", data)
            self._unwritten.pop(name, None)
            self._keep(name, data)

    def settle(self, name: str, document: dict[str, Any]) -> None:
        """Put a document even if it can't be written: `flush` tries again."""
        data = _dumps(document)
        with self._disk:
            self._unwritten[name] = data
            self._flush()
            self._keep(name, data)

    def flush(self) -> bool:
        """Write what could not be written; return False if that fails again."""
        with self._disk:
            return self._flush()

    def _flush(self) -> bool:
        for name, data in sorted(self._unwritten.items()):
            try:
                write_atomically(self._folder / f"{name}.json", data)
            except OSError as error:
                LOG.warning("%s can't be written to %s: %s", name, self._folder, error)
                return False
            del self._unwritten[name]
        return True

    def _keep(self, name: str, data: bytes) -> None:
        """Show a document to readers: not before it is on the disk, if that is possible."""
        with self._lock:
            self._documents[name] = _loads(data)

    def add(self, name: str, document: dict[str, Any]) -> bool:
        """Return False, writing nothing, if the name exists."""
        data = _dumps(document)
        with self._disk:
            if name in self._documents:
                return False
            write_atomically(self._folder / f"{name}.json", data)
            self._keep(name, data)
            return True

    def remove(self, name: str) -> bool:
        with self._disk:
            if name not in self._documents:
                return False
            (self._folder / f"{name}.json").unlink(missing_ok=True)
            self._unwritten.pop(name, None)
            with self._lock:
                del self._documents[name]
            return True


def read(path: Path) -> dict[str, Any]:
    """Return one record without its region. Raise OSError, ValueError."""
    return _loads(path.read_bytes())


def now() -> datetime:
    """Return the time in milliseconds, as AWS's timestamps have it."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def _dumps(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2, default=_encode).encode() + b"\n"


def _loads(data: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(data, object_hook=_decode)
    return loaded


def _encode(value: object) -> dict[str, str]:
    if isinstance(value, datetime):
        return {_TIME_KEY: value.isoformat()}
    raise TypeError(f"a record can't hold {value!r}")


def _decode(value: dict[str, Any]) -> Any:
    return datetime.fromisoformat(value[_TIME_KEY]) if value.keys() == {_TIME_KEY} else value
