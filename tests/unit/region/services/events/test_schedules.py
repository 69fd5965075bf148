"""Schedules: the examples of AWS's user guide, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sagemaker_byoc.region.services.events.schedules import parse_schedule
from sagemaker_byoc.region.wire.operations import AwsError

SINCE = datetime(2026, 11, 30, 16, 0, 30, tzinfo=UTC)
"""A Monday."""


@pytest.mark.parametrize(
    ("expression", "times"),
    [
        ("rate(1 minute)", ["11-30 16:01", "11-30 16:02"]),
        ("rate(5 minutes)", ["11-30 16:05", "11-30 16:10"]),
        ("rate(1 hour)", ["11-30 17:00", "11-30 18:00"]),
        ("rate(7 days)", ["12-07 16:00", "12-14 16:00"]),
        ("cron(0 10 * * ? *)", ["12-01 10:00", "12-02 10:00"]),
        ("cron(15 12 * * ? *)", ["12-01 12:15", "12-02 12:15"]),
        ("cron(0 18 ? * MON-FRI *)", ["11-30 18:00", "12-01 18:00"]),
        ("cron(0 18 ? * 2-6 *)", ["11-30 18:00", "12-01 18:00"]),
        ("cron(0 8 1 * ? *)", ["12-01 08:00", "01-01 08:00"]),
        ("cron(0/15 * * * ? *)", ["11-30 16:15", "11-30 16:30"]),
        ("cron(0/5 8-17 ? * MON-FRI *)", ["11-30 16:05", "11-30 16:10"]),
        ("cron(0/30 20-2 ? * MON-FRI *)", ["11-30 20:00", "11-30 20:30"]),
        ("cron(0 0 L * ? *)", ["12-31 00:00", "01-31 00:00"]),
        ("cron(0 0 3W * ? *)", ["12-03 00:00", "01-04 00:00"]),
        ("cron(0 0 ? * 3#2 *)", ["12-08 00:00", "01-12 00:00"]),
        ("cron(0 0 ? * tue#2 *)", ["12-08 00:00", "01-12 00:00"]),
        ("cron(0 0 ? * 6L *)", ["12-25 00:00", "01-29 00:00"]),
        ("cron(0 0 ? * L *)", ["12-05 00:00", "12-12 00:00"]),
        ("cron(0 0 ? * SAT-MON *)", ["12-05 00:00", "12-06 00:00"]),
        ("cron(0 0 ? * */2 *)", ["12-01 00:00", "12-03 00:00"]),
        ("cron(0 0 1 JAN,JUL ? 2027)", ["01-01 00:00", "07-01 00:00", None]),
        ("cron(0 0 30 2 ? *)", [None]),
    ],
)
def test_times(expression: str, times: list[str | None]) -> None:
    schedule, after = parse_schedule(expression), SINCE
    for expected in times:
        found = schedule(SINCE, after)
        assert (found and f"{found:%m-%d %H:%M}") == expected
        after = found or after


def test_a_rate_keeps_its_phase_after_a_pause() -> None:
    after = datetime(2026, 11, 30, 17, 7, tzinfo=UTC)
    assert parse_schedule("rate(5 minutes)")(SINCE, after) == after.replace(minute=10, second=30)


@pytest.mark.parametrize(
    "expression",
    """rate(1 minutes)|rate(5 minute)|rate(0 minutes)|rate(5 seconds)|rate(9999999 days)|every(1)
    cron(0 10 * * *)|cron(0 10 * * * *)|cron(0 10 ? * ? *)|cron(60 1 * * ? *)|cron(0 10 32 * ? *)
    cron(0 10 ? * 8 *)|cron(0 10 ? * 0 *)|cron(R 1 * * ? *)|cron(H 1 * * ? *)|cron(@daily)
    cron(0 0 ? * MON#6 *)|cron(a b c d ? f)|cron(0/0 * * * ? *)|cron(, , , , ? ,)""".replace(
        "\n    ", "|"
    ).split("|"),
)
def test_refused(expression: str) -> None:
    with pytest.raises(AwsError, match=r"Parameter ScheduleExpression is not valid\."):
        parse_schedule(expression)


@pytest.mark.parametrize(
    ("expression", "hint"),
    [
        ("rate(1 minutes)", "'rate(1 minutes)': write 1 minute."),
        ("rate(5 hour)", "write 5 hours."),
        ("at(2027-01-01T00:00:00)", "give one such as rate(5 minutes) or cron("),
        ("cron(0 10 * * *)", "give 6 fields: minutes, hours, day of month, month, day of week, "),
        ("cron(0 10 * * * *)", "give ? for one of day of month and day of week, and not for both."),
        ("cron(0 10 ? * 8 *)", "8 is not a value of day of week."),
        ("cron(60 1 * * ? *)", "a value is out of range."),
    ],
)
def test_a_refusal_has_the_value_and_a_hint(expression: str, hint: str) -> None:
    with pytest.raises(AwsError) as refused:
        parse_schedule(expression)
    assert hint in str(refused.value)
