"""When failures show in /ping: pure, with time passed in."""

from __future__ import annotations

import pytest

from sagemaker_byoc.serving.front.http.front import BUDGET_LEAST, BUDGET_WINDOW, ErrorBudget


class Minute:
    """A budget, and the counts that it looks at."""

    def __init__(self, most):
        self.budget = ErrorBudget(most)
        self.now = 1000.0
        self.counts = {}
        self.budget.look(self.now, self.counts)

    def answer(self, status, times):
        self.counts[status] = self.counts.get(status, 0) + times
        self.now += 1
        self.budget.look(self.now, self.counts)
        return bool(self.budget.reason)


def test_all_fail():
    """By default only when nothing else happens; one good answer ends it."""
    minute = Minute(100)
    assert not minute.answer(500, BUDGET_LEAST - 1)
    assert minute.answer(507, 1)
    assert minute.budget.reason == f"{BUDGET_LEAST} of {BUDGET_LEAST} requests failed within 60 s"
    assert not minute.answer(200, 1)


def test_share():
    """Or from a share on."""
    minute = Minute(50)
    assert not minute.answer(200, 60)
    assert not minute.answer(500, 59)
    assert minute.answer(500, 1)


def test_recovers():
    """By itself: what is a minute old does not count."""
    minute = Minute(100)
    assert minute.answer(500, 100)
    minute.now += BUDGET_WINDOW
    assert not minute.answer(500, 0)
    assert minute.answer(504, BUDGET_LEAST)


@pytest.mark.parametrize("status", [400, 413, 415, 499, 503])
def test_not_failures(status):
    """What the client or the load is to blame for."""
    assert not Minute(100).answer(status, 1000)


def test_never():
    """0 switches it off."""
    assert not Minute(0).answer(500, 1000)
