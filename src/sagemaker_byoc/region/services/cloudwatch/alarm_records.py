"""The alarms of a region: one record per alarm, changes of state, and what follows from them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.event_bus import Event
from sagemaker_byoc.region.core.records import Records
from sagemaker_byoc.region.services.cloudwatch.alarm_actions import AlarmActions
from sagemaker_byoc.region.services.cloudwatch.alarm_changes import AlarmChange
from sagemaker_byoc.region.services.cloudwatch.alarm_evaluation import INSUFFICIENT, Verdict
from sagemaker_byoc.region.services.cloudwatch.alarm_history import (
    CONFIGURATION,
    STATE,
    AlarmHistory,
)

ALARMS = 5000
"""AWS's quota of a region."""
_STATE_MEMBERS = (
    "StateValue",
    "StateReason",
    "StateReasonData",
    "StateUpdatedTimestamp",
    "StateTransitionedTimestamp",
)


class FullError(Exception):
    """There are `ALARMS` alarms already."""


class AlarmRecords:
    """Alarms by name. Documents have the members of MetricAlarm; thread-safe."""

    def __init__(
        self,
        folder: Path,
        account: Account,
        clock: Callable[[], float],
        publish: Callable[[Event], object],
    ) -> None:
        self._account = account
        self._clock = clock
        self._publish = publish
        self._lock = threading.Lock()
        self._records = Records(folder / "alarms")
        self.history = AlarmHistory(folder)
        self.actions = AlarmActions(self.history, account, clock)
        self._names: dict[str, str] = {}
        self._configured: dict[str, datetime] = {}
        for key in self._records:
            document = self._records.get(key)
            if document is not None:
                self._remember(key, document["alarm"])

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names.copy()))

    def get(self, name: str) -> dict[str, Any] | None:
        document = self._document(name)
        return None if document is None else document["alarm"]

    def configured(self, name: str) -> datetime | None:
        """Return the time of an alarm's configuration, without a read of its record."""
        return self._configured.get(name)

    def arn(self, name: str) -> str:
        return self._account.arn("cloudwatch", f"alarm:{name}")

    def put(self, configuration: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Make an alarm, or replace the configuration of one; its state and tags then stay.

        Raise FullError, and OSError if it can't be written.
        """
        name, now = configuration["AlarmName"], self._now()
        with self._lock:
            document = self._document(name)
            if document is None and len(self._names) >= ALARMS:
                raise FullError
            old = None if document is None else document["alarm"]
            state = (
                {key: old[key] for key in _STATE_MEMBERS if key in old}
                if old is not None
                else {
                    "StateValue": INSUFFICIENT,
                    "StateReason": "Unchecked: Initial alarm creation",
                    "StateUpdatedTimestamp": now,
                    "StateTransitionedTimestamp": now,
                }
            )
            alarm = {
                **configuration,
                "AlarmArn": self.arn(name),
                "AlarmConfigurationUpdatedTimestamp": now,
                **state,
            }
            kept = dict(tags) if document is None else document["tags"]
            key = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
            self._records.put(key, {"alarm": alarm, "tags": kept})
            self._remember(key, alarm)
        verb = "created" if old is None else "updated"
        data = {"version": "1.0", "type": "Create" if old is None else "Update"}
        self._note(name, CONFIGURATION, f'Alarm "{name}" {verb}', data)

    def remove(self, name: str) -> None:
        with self._lock:
            key = self._names.pop(name, None)
            if key is None:
                return
            self._configured.pop(name, None)
            self._records.remove(key)
        data = {"version": "1.0", "type": "Delete"}
        self._note(name, CONFIGURATION, f'Alarm "{name}" deleted', data)

    def set_state(
        self, name: str, verdict: Verdict, configured: datetime | None = None
    ) -> AlarmChange | None:
        """Give an alarm a state; if it is another one, write the history, act and publish.

        Return None if there is no such alarm, or its configuration is not of `configured` any more.
        """
        with self._lock:
            document = self._document(name)
            alarm = None if document is None else document["alarm"]
            if document is None or alarm is None:
                return None
            if configured not in {None, alarm["AlarmConfigurationUpdatedTimestamp"]}:
                return None
            previous = {key: alarm[key] for key in _STATE_MEMBERS if key in alarm}
            is_change = alarm["StateValue"] != verdict.state
            if is_change:
                now = self._now()
                alarm |= {
                    "StateValue": verdict.state,
                    "StateReason": verdict.reason,
                    "StateReasonData": verdict.data,
                    "StateUpdatedTimestamp": now,
                    "StateTransitionedTimestamp": now,
                }
                self._records.settle(self._names[name], document)
        change = AlarmChange({**alarm, "StateReasonData": verdict.data}, previous)
        if is_change:
            states = f"{previous['StateValue']} to {verdict.state}"
            self._note(name, STATE, f"Alarm updated from {states}", change.history())
            self._publish(change.event())
        self.actions.start(change, is_repetition=not is_change)
        return change

    def enable_actions(self, names: Iterable[str], *, enabled: bool) -> None:
        """Let the actions of the alarms run or not. Names without an alarm are left out."""
        for name in names:
            with self._lock:
                document = self._document(name)
                if document is None or document["alarm"]["ActionsEnabled"] is enabled:
                    continue
                document["alarm"]["ActionsEnabled"] = enabled
                self._records.put(self._names[name], document)
            what = "enabled" if enabled else "disabled"
            data = {"version": "1.0", "type": "Update", "actionsEnabled": enabled}
            self._note(name, CONFIGURATION, f'Actions of alarm "{name}" {what}', data)

    def tags(self, name: str) -> dict[str, str] | None:
        document = self._document(name)
        return None if document is None else document["tags"]

    def change_tags(
        self, name: str, change: Callable[[Mapping[str, str]], Mapping[str, str]]
    ) -> None:
        """Give an alarm the tags that `change` makes of its tags. Raise what it raises."""
        with self._lock:
            document = self._document(name)
            if document is not None:
                tags = dict(change(document["tags"]))
                self._records.put(self._names[name], {**document, "tags": tags})

    def close(self) -> None:
        self.actions.close()
        self._records.flush()
        self.history.close()

    def _remember(self, key: str, alarm: Mapping[str, Any]) -> None:
        self._names[alarm["AlarmName"]] = key
        self._configured[alarm["AlarmName"]] = alarm["AlarmConfigurationUpdatedTimestamp"]

    def _document(self, name: str) -> dict[str, Any] | None:
        key = self._names.get(name)
        return None if key is None else self._records.get(key)

    def _note(self, name: str, kind: str, summary: str, data: Mapping[str, Any]) -> None:
        self.history.add(name, kind, summary, data, now=self._clock())

    def _now(self) -> datetime:
        time = datetime.fromtimestamp(self._clock(), UTC)
        return time.replace(microsecond=time.microsecond // 1000 * 1000)
