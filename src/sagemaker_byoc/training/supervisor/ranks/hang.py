"""Whether ranks still make steps, by the files whose modification time they renew."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sagemaker_byoc.training.supervisor.settings import PROGRESS_FILE

FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>.+)')
MAIN_THREAD = "most recent call first"
FRAMES = 4


class Watch:
    """One progress file a rank; a rank without one (yet) tells nothing about its steps."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self._seen: dict[Path, tuple[int, float]] = {}
        """Modification time, and when on our clock we saw it first: the two clocks may differ."""

    def stalled(self, now: float) -> float | None:
        """Seconds since the slowest rank's last step; None where no rank has made one."""
        ages = [age for file in self._files if (age := self._age(file, now)) is not None]
        return max(ages, default=None)

    def _age(self, file: Path, now: float) -> float | None:
        try:
            changed = file.stat().st_mtime_ns
        except OSError:
            return None
        last = self._seen.get(file)
        if last is None or last[0] != changed:
            self._seen[file] = (changed, now)
            return 0.0
        return now - last[1]


def progress_variables(file: Path) -> dict[str, str]:
    """With them a rank tells its steps, and shows its stacks when it is aborted."""
    return {PROGRESS_FILE: str(file), "PYTHONFAULTHANDLER": "1"}


def innermost_frames(err: str) -> list[str]:
    """Where the main thread was when the fault handler wrote its stack, innermost first."""
    start = err.rfind(MAIN_THREAD)
    places = []
    for line in err[start:].splitlines()[1:] if start >= 0 else []:
        found = FRAME.fullmatch(line)
        if not found:
            break
        places.append(f"  {found['file']}:{found['line']} in {found['function']}")
    return places[:FRAMES]
