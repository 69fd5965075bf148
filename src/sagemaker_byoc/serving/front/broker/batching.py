"""How many requests go to a worker at once: what has queued, up to a limit. Pure."""

from __future__ import annotations

SHRINK = 0.9


class BatchLimit:
    """The limit of one slot. With a target it follows the time that batches take.

    Additive growth, multiplicative shrinking (Clipper, NSDI 2017): one more after a full batch
    within the target, a tenth less after any that took longer.
    """

    def __init__(self, target: float | None = None) -> None:
        self._target = target
        self._most = 1
        self._current = 1.0

    @property
    def now(self) -> int:
        return int(self._current)

    def open(self, most: int) -> None:
        """The worker says how many its handlers take; with a target, one is where to begin."""
        self._most = most
        self._current = 1.0 if self._target is not None else float(most)

    def took(self, count: int, seconds: float) -> None:
        if self._target is None:
            return
        if seconds > self._target:
            self._current = max(1.0, self._current * SHRINK)
        elif count >= self.now:
            self._current = min(float(self._most), self._current + 1.0)
