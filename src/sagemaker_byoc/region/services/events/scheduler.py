"""The scheduler: publishes a `Scheduled Event` when a rule's schedule expression says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime

from sagemaker_byoc.region.core.event_bus import Event
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.events.rules import Rule

LOG = logging.getLogger(__name__)

SOURCE, DETAIL_TYPE = "aws.events", "Scheduled Event"
_LONGEST_SLEEP = 30.0
"""Then the clock is read again: the machine may have slept, or its time may have been set."""


class Scheduler:
    """One event per rule and due time; what was due while the region was down is left out.

    `clock` is the region's.
    """

    def __init__(
        self,
        rules: Callable[[], Iterable[Rule]],
        publish: Callable[[Event], object],
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._rules = rules
        self._publish = publish
        self._clock = clock
        self._due: dict[tuple[str, datetime], datetime | None] = {}
        """By rule, and since when it is as it is."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._change = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())

    def wake(self) -> None:
        """Look at the rules again; callable from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._change.set)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def fire(self) -> float:
        """Publish what is due; return the seconds until the next, at most 30."""
        at = self._clock()
        rules = {(each.arn, each.since): each for each in self._rules() if each.schedule}
        self._due = {key: due for key, due in self._due.items() if key in rules}
        for key, rule in rules.items():
            due = self._due.get(key)
            if due is not None and due <= at:
                self._publish(_scheduled(rule, due))
            elif key in self._due:
                continue
            self._due[key] = _next(rule, at)
        waits = [(due - at).total_seconds() for due in self._due.values() if due is not None]
        return min([_LONGEST_SLEEP, *waits])

    async def _run(self) -> None:
        while True:
            self._change.clear()
            seconds = self.fire()
            with suppress(TimeoutError):
                # Not wait_for, which loses a cancellation that comes together with the change.
                async with asyncio.timeout(seconds):
                    await self._change.wait()


def is_of(rule: Rule, event: Event) -> bool:
    """Return whether the event is one that `rule` was due for."""
    is_scheduled = event.source == SOURCE and event.detail_type == DETAIL_TYPE
    return is_scheduled and event.resources == (rule.arn,)


def _next(rule: Rule, at: datetime) -> datetime | None:
    """Return when a rule is due after `at`; never, if that can't be computed."""
    assert rule.schedule is not None
    try:
        return rule.schedule(rule.since, at)
    except Exception:  # the schedules of other rules continue
        LOG.exception("the schedule of %s has ended", rule.arn)
        return None


def _scheduled(rule: Rule, due: datetime) -> Event:
    return Event(detail_type=DETAIL_TYPE, source=SOURCE, detail={}, resources=(rule.arn,), time=due)
