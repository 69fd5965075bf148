"""Schedule expressions of EventBridge: `rate(5 minutes)` and `cron(0 8 ? * MON-FRI *)`, in UTC.

Source: EventBridge user guide, "Creating a scheduled rule". A rate counts from the time at which
its rule was created or enabled. Years end in 2099, because croniter's do; AWS's end in 2199.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from croniter import croniter
from croniter.croniter import CroniterBadDateError, CroniterError

from sagemaker_byoc.region.wire.operations import AwsError

Schedule: TypeAlias = Callable[[datetime, datetime], datetime | None]
"""Returns the first time after the second argument, if the rule is enabled since the first; None
if there is none."""

_RATE = re.compile(r"rate\((?P<count>[1-9]\d{0,5}) (?P<unit>minute|hour|day)(?P<plural>s?)\)")
_CRON = re.compile(r"cron\((?P<fields>[^()]*)\)")
_MONTHS = "JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS = {
    name: re.compile(rf"(?:{signs})+", re.IGNORECASE)
    for name, signs in (
        ("minutes", r"[\d*,/-]"),
        ("hours", r"[\d*,/-]"),
        ("day of month", r"[\d*?,/LW-]"),
        ("month", rf"[\d*,/-]|{_MONTHS}"),
        ("day of week", rf"[1-7*?,/L#-]|{'|'.join(_DAYS)}"),
        ("year", r"[\d*,/-]"),
    )
}
"""What each field may have; croniter knows more, such as R for a random number."""
_DAY = re.compile(r"(?<![#/\d])([1-7])(?!\d)")
_LAST_DAY = re.compile(r"(?P<day>[A-Z]{3})L", re.IGNORECASE)
_NUMBERS = {name: str(number) for number, name in enumerate(_DAYS)}


def parse_schedule(expression: str) -> Schedule:
    """Raise AwsError for what EventBridge refuses."""
    if found := _RATE.fullmatch(expression):
        count = int(found["count"])
        unit = found["unit"]
        if (count == 1) == bool(found["plural"]):
            raise _invalid(expression, f"write {count} {unit}{'' if count == 1 else 's'}")
        return _rate(timedelta(**{f"{unit}s": count}))
    if found := _CRON.fullmatch(expression):
        try:
            return _cron(found["fields"].split())
        except ValueError as error:
            raise _invalid(expression, str(error)) from error
    raise _invalid(expression, "give one such as rate(5 minutes) or cron(0 8 ? * MON-FRI *)")


def _invalid(expression: str, reason: str) -> AwsError:
    """Return AWS's sentence, and the value with a hint."""
    text = f"Parameter ScheduleExpression is not valid. Reason: {expression!r}: {reason}."
    return AwsError("ValidationException", text)


def _rate(period: timedelta) -> Schedule:
    return lambda since, after: since + period * (max((after - since) // period, 0) + 1)


def _cron(fields: list[str]) -> Schedule:
    """Return the schedule of AWS's six fields, which croniter reads in another order.

    Its days of the week count from 0, and the last day of a month or week is written differently.
    Raise ValueError with a hint.
    """
    if len(fields) != len(_FIELDS):
        names = ", ".join(_FIELDS)
        raise ValueError(f"give {len(_FIELDS)} fields: {names}")
    for (name, pattern), field in zip(_FIELDS.items(), fields, strict=True):
        if not pattern.fullmatch(field):
            raise ValueError(f"{field} is not a value of {name}")
    minute, hour, day, month, weekday, year = fields
    if (day == "?") == (weekday == "?"):
        raise ValueError("give ? for one of day of month and day of week, and not for both")
    fields = [minute, hour, day.replace("?", "*"), month, _weekday(weekday), "0", year]
    try:
        croniter(" ".join(fields), datetime(2000, 1, 1, tzinfo=UTC))
    except (CroniterError, ValueError, KeyError) as error:
        raise ValueError("a value is out of range") from error

    def following(_since: datetime, after: datetime) -> datetime | None:
        try:
            found: datetime = croniter(" ".join(fields), after).get_next(datetime)
        except CroniterBadDateError:  # the years are over, or it is a day such as February 30
            return None
        return found

    return following


def _weekday(field: str) -> str:
    """Return croniter's form of `2-6`, `MON#1`, `6L` and `L`: 1-5, mon#1, L5 and 6."""
    if field == "?":
        return "*"
    if field.upper() == "L":
        return "6"
    named = _DAY.sub(lambda found: _DAYS[int(found[1]) - 1], field)
    return _LAST_DAY.sub(lambda found: "L" + _NUMBERS[found["day"].upper()], named)
