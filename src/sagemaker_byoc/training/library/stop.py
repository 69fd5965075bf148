"""A stop that all ranks make at the same step: SIGTERM sets a flag, which is agreed on over ranks.

For user scripts; works alone, without torch.distributed and without a Checkpointer.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from sagemaker_byoc.training.library.ranks import Ranks

logger = logging.getLogger(__name__)

MOST_STEPS_APART = 32
SECONDS_APART = 1.0


class StopFlag:
    """Set by SIGTERM on any rank.

    `every`: steps between two agreements; without it, about a second's worth of steps, at most
    32, by the slowest rank's clock. Every rank makes it, and calls `agreed` with the same steps.
    """

    def __init__(self, *, every: int | None = None, catch_sigterm: bool = True) -> None:
        if every is not None and every < 1:
            raise ValueError(f"every={every}: at least 1 step")
        self.is_set = False
        """On this rank only; another rank may not know yet."""
        self._ranks = Ranks()
        self._every = every
        self._is_agreed = False
        self._wish = False
        self._wish_agreed = False
        self._next = 0
        self._last: tuple[int, float] | None = None
        self._former: Any = None
        self._catches = catch_sigterm and self._catch()

    def set(self) -> None:
        """As SIGTERM does; for a script's own reason to stop."""
        self.is_set = True

    def agreed(self, step: int, *, wish: Callable[[], bool] | None = None) -> bool:
        """Whether all ranks stop now; the same answer on each rank for the same `step`.

        `wish` travels with the flag in one message: see `wished`.
        """
        self._wish_agreed = False
        if self._is_agreed or step < self._next:
            return self._is_agreed
        self._wish = wish is not None and wish()
        stop, wished, microseconds = self._ranks.largest(
            [int(self.is_set), int(self._wish), self._step_microseconds(step)]
        )
        self._is_agreed, self._wish_agreed = bool(stop), bool(wished)
        # From a value that all ranks share, so that they meet again at the same step.
        self._next = step + (self._every or steps_apart(microseconds))
        if self._is_agreed:
            logger.info("stopping after step %d, as agreed by all ranks", step)
        return self._is_agreed

    @property
    def wished(self) -> bool:
        """Whether the ranks met in the last `agreed`, and any of them had its wish."""
        return self._wish_agreed

    def close(self) -> None:
        """Give SIGTERM back to whom it belonged."""
        if self._catches and signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, self._former)
        self._catches = False

    def _catch(self) -> bool:
        try:
            self._former = signal.signal(signal.SIGTERM, self._on_signal)
        except ValueError:
            logger.warning("SIGTERM can only be caught in the main thread: no graceful stop")
            return False
        if self._former is None:  # a handler that was not set from Python can't be put back
            self._former = signal.SIG_DFL
        return True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        if callable(self._former):
            self._former(number, frame)

    def _step_microseconds(self, step: int) -> int:
        now = time.monotonic()
        last_step, last_time = self._last or (step, now)
        self._last = (step, now)
        return int((now - last_time) * 1e6 / max(step - last_step, 1))


def steps_apart(microseconds: int) -> int:
    """How many steps of `microseconds` to the next agreement; 1 while that is unknown."""
    if microseconds <= 0:
        return 1
    return max(1, min(MOST_STEPS_APART, int(SECONDS_APART * 1e6 / microseconds)))
