"""The scheduler publishes one event per due time, and none for the past."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from sagemaker_byoc.region.core.event_bus import Event
from sagemaker_byoc.region.services.events.rules import Rule
from sagemaker_byoc.region.services.events.scheduler import Scheduler
from sagemaker_byoc.region.services.events.schedules import parse_schedule

START = datetime(2026, 11, 30, 16, 0, 30, tzinfo=UTC)


@dataclass
class Day:
    """A scheduler with rules and a clock."""

    at: datetime = START
    rules: list[Rule] = field(default_factory=list)
    published: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(lambda: self.rules, self.published.append, lambda: self.at)

    def fire(self, seconds: float) -> float:
        self.at = START + timedelta(seconds=seconds)
        return self.scheduler.fire()

    def times(self) -> list[str]:
        return [f"{event.time:%H:%M:%S}" for event in self.published]


def _rule(expression: str, since: datetime = START) -> Rule:
    record = {"Arn": f"arn:{expression}", "Since": since}
    schedule = parse_schedule(expression)
    return Rule(record=record, matches=None, schedule=schedule, targets=())


def test_events_are_due_once_and_have_their_due_time() -> None:
    day = Day(rules=[_rule("rate(1 minute)"), _rule("cron(1 16 * * ? *)")])
    assert day.fire(0) == 30
    assert day.fire(29) == 1
    assert day.fire(30.5) == 29.5
    assert day.times() == ["16:01:00"]
    day.fire(60)
    day.fire(60.5)
    assert day.times() == ["16:01:00", "16:01:30"]
    assert [event.resources for event in day.published] == [
        ("arn:cron(1 16 * * ? *)",),
        ("arn:rate(1 minute)",),
    ]


def test_a_pause_of_the_machine_gives_one_event() -> None:
    day = Day(rules=[_rule("rate(1 minute)")])
    day.fire(0)
    day.fire(3600)
    assert day.times() == ["16:01:30"]
    day.fire(3660)
    assert day.times() == ["16:01:30", "17:01:30"]


def test_a_rule_that_is_changed_counts_from_then() -> None:
    day = Day(rules=[_rule("rate(1 minute)")])
    day.fire(0)
    day.rules = [_rule("rate(1 minute)", START + timedelta(seconds=50))]
    day.fire(50)
    day.fire(61)
    assert day.times() == []
    day.fire(111)
    day.rules = []
    day.fire(300)
    assert day.times() == ["16:02:20"]


def test_a_schedule_that_is_over_is_never_due() -> None:
    day = Day(rules=[_rule("cron(0 0 1 1 ? 2020)")])
    assert day.fire(0) == day.fire(9e6) == 30
    assert day.times() == []


def test_a_schedule_that_fails_does_not_stop_others(caplog: pytest.LogCaptureFixture) -> None:
    def fail(since: datetime, after: datetime) -> datetime:
        raise OverflowError("date value out of range")

    broken = Rule(record={"Arn": "arn:b", "Since": START}, matches=None, schedule=fail, targets=())
    day = Day(rules=[broken, _rule("rate(1 minute)")])
    day.fire(0)
    day.fire(60)
    assert day.times() == ["16:01:30"]
    assert caplog.text.count("the schedule of arn:b has ended") == 1
