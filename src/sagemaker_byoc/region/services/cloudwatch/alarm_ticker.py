"""The thread that evaluates alarms: each once per period, but at least once a minute."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sagemaker_byoc.region.services.cloudwatch.alarm_evaluation import evaluate
from sagemaker_byoc.region.services.cloudwatch.alarm_records import AlarmRecords
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore

LOG = logging.getLogger(__name__)

TICK_SECONDS = 1.0
GRACE_SECONDS = 2.0
"""Time after the end of a period until it is evaluated: its last values may come meanwhile."""
_CLOSING_SECONDS = 5.0


class AlarmTicker:
    """Evaluates the alarms one after the other. A new alarm is evaluated at once."""

    def __init__(
        self, records: AlarmRecords, store: MetricStore, clock: Callable[[], float]
    ) -> None:
        self._records = records
        self._store = store
        self._clock = clock
        self._due: dict[str, tuple[datetime, float]] = {}
        """When each alarm is evaluated next, and the time of the configuration that says so."""
        self._early: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="byoc-alarms", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the thread, waiting for at most 5 s. Idempotent."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSING_SECONDS)

    def expedite(self, name: str) -> None:
        """Let the next tick evaluate an alarm. From any thread."""
        self._early.put(name)

    def tick(self) -> None:
        """Evaluate the alarms that are due now."""
        now = self._clock()
        while not self._early.empty():
            self._due.pop(self._early.get(), None)
        due: dict[str, tuple[datetime, float]] = {}
        for name in self._records:
            known = self._due.get(name)
            if known is not None and not self._is_due(known[1], now):
                configured = self._records.configured(name)
                if configured == known[0]:
                    due[name] = known
                    continue
            alarm = self._records.get(name)
            if alarm is None or self._closing.is_set():
                continue
            self._evaluate(name, alarm, now)
            interval = min(alarm["Period"], 60)
            end = (now - GRACE_SECONDS) // interval * interval + interval
            due[name] = (alarm["AlarmConfigurationUpdatedTimestamp"], end + GRACE_SECONDS)
        self._due = due

    def _is_due(self, time: float, now: float) -> bool:
        """Return whether `time` has come, or is so far away that the clock was set back."""
        return not now < time <= now + 60 + GRACE_SECONDS

    def _evaluate(self, name: str, alarm: dict[str, Any], now: float) -> None:
        try:
            verdict = evaluate(self._store, alarm, now)
            if verdict is not None:
                configured = alarm["AlarmConfigurationUpdatedTimestamp"]
                self._records.set_state(name, verdict, configured)
        except Exception:
            LOG.exception("the alarm %s could not be evaluated", name)

    def _run(self) -> None:
        while not self._closing.wait(TICK_SECONDS):
            try:
                self.tick()
            except Exception:
                LOG.exception("the alarms could not be evaluated")
