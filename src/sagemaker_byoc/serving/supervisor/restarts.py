"""When a slot whose worker died gets a new one: pure, with time passed in."""

from __future__ import annotations

from collections import deque

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
WINDOW = 60.0
DEATHS_IN_WINDOW = 5


class Restarts:
    """The deaths of one slot's workers."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=DEATHS_IN_WINDOW)
        self._delay = 0.0

    def died(self, now: float) -> float | None:
        """Seconds to wait before the next start; None when it is no use any more.

        The delay doubles from death to death and starts again after a minute without one.
        """
        if self._deaths and now - self._deaths[-1] > WINDOW:
            self._delay = 0.0
        self._deaths.append(now)
        if len(self._deaths) == DEATHS_IN_WINDOW and now - self._deaths[0] <= WINDOW:
            return None
        self._delay = min(LONGEST_DELAY, self._delay * 2 or FIRST_DELAY)
        return self._delay
