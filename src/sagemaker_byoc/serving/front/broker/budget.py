"""Whether so many requests fail that the platform should look elsewhere. Pure, time passed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

BUDGET_WINDOW = 60.0
BUDGET_STEP = 1.0
BUDGET_LEAST = 20
"""Answers within the window below which nothing is concluded."""
FAILURES = frozenset({500, 504, 507})
"""The model raised, died, hung or had no memory. Refusals (503) and bad requests are none."""


class ErrorBudget:
    """The share of failures among the answers of the last minute; `most` is in percent, 0 for
    never. It recovers by itself: without requests, or with good ones, failures leave the window."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._looks: deque[tuple[float, int, int]] = deque([(0.0, 0, 0)])
        self.reason = ""
        """Why /ping says 503; empty while it does not."""

    def look(self, now: float, statuses: Mapping[int, int]) -> None:
        """With the counts of all answers so far; called again and again."""
        if not self._most or now < self._looks[-1][0] + BUDGET_STEP:
            return
        good = sum(count for status, count in statuses.items() if status < 400)
        bad = sum(statuses.get(status, 0) for status in FAILURES)
        self._looks.append((now, good, bad))
        while len(self._looks) > 1 and self._looks[1][0] <= now - BUDGET_WINDOW:
            self._looks.popleft()
        _, good_before, bad_before = self._looks[0]
        failed, answered = bad - bad_before, good + bad - good_before - bad_before
        is_spent = answered >= BUDGET_LEAST and 100 * failed >= self._most * answered
        self.reason = (
            f"{failed} of {answered} requests failed within {BUDGET_WINDOW:g} s" if is_spent else ""
        )
