"""Whether files have changed since the last look: by polling, which works on any file system."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from sagemaker_byoc.region.engines.packing import SKIPPED

MOST = 20_000
"""Files that are looked at; a folder that holds more is watched in part."""
_OWN_WRITES = (".pyc", ".swp", "~")
"""What an interpreter or an editor writes beside a file that nobody has saved."""

Snapshot = dict[str, tuple[int, int, int]]


class Changes:
    """Changes are reported once they have settled: two looks in a row that see the same files."""

    def __init__(self, places: Iterable[Path]) -> None:
        self._places = [*places]
        self._reported = self._last = self._look()

    def settled(self) -> list[str]:
        """Return the names of files that were changed, added or removed since the last report."""
        before, self._last = self._last, self._look()
        if self._last != before or self._last == self._reported:
            return []
        differing = self._last.items() ^ self._reported.items()
        self._reported = self._last
        return sorted({name for name, _ in differing})

    def _look(self) -> Snapshot:
        found: Snapshot = {}
        for path in self._files():
            with suppress(OSError):  # removed meanwhile
                status = Path(path).stat()
                found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
            if len(found) == MOST:
                break
        return found

    def _files(self) -> Iterator[str]:
        for place in self._places:
            if not place.is_dir():
                yield str(place)
                continue
            for folder, folders, files in os.walk(place):
                folders[:] = sorted(name for name in folders if name not in SKIPPED)
                for name in sorted(files):
                    if not name.endswith(_OWN_WRITES):
                        yield os.path.join(folder, name)  # noqa: PTH118 - thousands of them
