"""Rules of event buses, and their targets."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.event_bus import DEFAULT_BUS
from sagemaker_byoc.region.core.records import Records, now
from sagemaker_byoc.region.services.events.buses import Buses
from sagemaker_byoc.region.services.events.errors import (
    invalid,
    limit_exceeded,
    not_found,
    not_here,
)
from sagemaker_byoc.region.services.events.patterns import Pattern, compile_pattern
from sagemaker_byoc.region.services.events.request_members import (
    ChangeTags,
    list_page,
    merged_tags,
)
from sagemaker_byoc.region.services.events.schedules import Schedule, parse_schedule
from sagemaker_byoc.region.services.events.targets import Target, TargetKinds
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters

LOG = logging.getLogger(__name__)

MOST = 300
"""Rules of an event bus [quota]."""
MOST_TARGETS = 5
"""Targets of a rule [quota]."""
_DESCRIBED = ("Name", "Arn", "EventPattern", "ScheduleExpression", "State", "Description")
_LISTED = (*_DESCRIBED, "RoleArn", "EventBusName")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An enabled rule as it is used; `record` is its document."""

    record: Parameters
    matches: Pattern | None
    schedule: Schedule | None
    targets: tuple[Target, ...]

    @property
    def arn(self) -> str:
        return str(self.record["Arn"])

    @property
    def since(self) -> datetime:
        """When it was made, changed or enabled."""
        since: datetime = self.record["Since"]
        return since


class Rules:
    """Rules with their targets are records, and compiled for use. Thread-safe."""

    def __init__(self, state: Path, account: Account, buses: Buses, kinds: TargetKinds) -> None:
        self.changed: Callable[[], None] = _ignore
        """Called after each change of a rule."""
        self._records = Records(state / "events" / "rules")
        self._account = account
        self._buses = buses
        self._bus_of = buses.name_of
        self._kinds = kinds
        self._lock = threading.Lock()
        self._by_key: dict[str, Rule] = {}
        self._enabled: tuple[Rule, ...] = ()
        for key in self._records:
            try:
                self._use(key, self._records.get(key))
            except AwsError as error:  # written by another version
                LOG.warning("the rule %s is not used: %s", key, error)

    def operations(self) -> Operations:
        return {
            "DeleteEventBus": self._delete_bus,
            "DeleteRule": self._delete,
            "DescribeRule": self._describe,
            "DisableRule": lambda asked: self._switch(asked, "DISABLED"),
            "EnableRule": lambda asked: self._switch(asked, "ENABLED"),
            "ListRuleNamesByTarget": self._list_by_target,
            "ListRules": self._list,
            "ListTargetsByRule": self._list_targets,
            "PutRule": self._put,
            "PutTargets": self._put_targets,
            "RemoveTargets": self._remove_targets,
        }

    def enabled(self) -> tuple[Rule, ...]:
        """Return at once: the event loop calls it, and the lock is held while a file is written."""
        return self._enabled

    def tags(self, arn: str) -> dict[str, str]:
        """Raise AwsError if there is no such rule."""
        return dict(self._by_arn(arn)[1].get("Tags", {}))

    def change_tags(self, arn: str, change: ChangeTags) -> None:
        """Raise AwsError if there is no such rule, and what `change` raises."""
        with self._lock:
            key, record = self._by_arn(arn)
            self._records.put(key, {**record, "Tags": change(record.get("Tags", {}))})

    # ── rules ──

    def _put(self, asked: Parameters) -> Parameters:
        with self._lock:
            bus, name = self._bus_of(asked), asked["Name"]
            _check_rule(asked, bus)
            key = _key(bus, name)
            old = self._records.get(key)
            if old is None and len(self._keys_of(bus)) >= MOST:
                raise limit_exceeded()
            # The tags of a request are those of a new rule alone [model: PutRule].
            tags = merged_tags({}, asked.get("Tags", ())) if old is None else old.get("Tags", {})
            record = {
                "State": "ENABLED",
                **asked,
                "Arn": self._arn(bus, name),
                "EventBusName": bus,
                "Since": now(),
                "Tags": tags,
                "Targets": {} if old is None else old["Targets"],
            }
            self._keep(key, record)
        self.changed()
        return {"RuleArn": record["Arn"]}

    def _describe(self, asked: Parameters) -> Parameters:
        record = self._get(asked, "Name")
        shown = {name: record[name] for name in _LISTED if name in record}
        return {**shown, "CreatedBy": self._account.id}

    def _list(self, asked: Parameters) -> Parameters:
        found = [
            {name: record[name] for name in _LISTED if name in record}
            for record in self._of_bus(self._bus_of(asked))
        ]
        return list_page("Rules", found, asked, lambda each: str(each["Name"]))

    def _list_by_target(self, asked: Parameters) -> Parameters:
        found = [
            str(record["Name"])
            for record in self._of_bus(self._bus_of(asked))
            if any(each["Arn"] == asked["TargetArn"] for each in record["Targets"].values())
        ]
        return list_page("RuleNames", found, asked, str)

    def _delete(self, asked: Parameters) -> Parameters:
        """A rule that does not exist is deleted, as in the cloud."""
        with self._lock:
            key = _key(self._bus_of(asked), asked["Name"])
            record = self._records.get(key)
            if record is not None and record["Targets"]:
                raise invalid("Rule can't be deleted since it has targets.")
            self._records.remove(key)
            self._use(key, None)
        self.changed()
        return {}

    def _delete_bus(self, asked: Parameters) -> Parameters:
        """Delete a bus without rules."""
        with self._lock:
            if asked["Name"] != DEFAULT_BUS and self._keys_of(asked["Name"]):
                raise invalid(f"Event bus {asked['Name']} can't be deleted since it has rules.")
            self._buses.remove(asked["Name"])
        return {}

    def _switch(self, asked: Parameters, state: str) -> Parameters:
        with self._lock:
            record = self._get(asked, "Name")
            if record["State"] != state:
                key = _key(record["EventBusName"], record["Name"])
                self._keep(key, {**record, "State": state, "Since": now()})
        self.changed()
        return {}

    # ── targets ──

    def _put_targets(self, asked: Parameters) -> Parameters:
        with self._lock:
            record = self._get(asked, "Rule")
            for each in asked["Targets"]:
                self._kinds.target(each, record).kind.check(each)
            record["Targets"] |= {each["Id"]: each for each in asked["Targets"]}
            if len(record["Targets"]) > MOST_TARGETS:
                raise limit_exceeded()
            self._keep(_key(record["EventBusName"], record["Name"]), record)
        return {"FailedEntryCount": 0, "FailedEntries": []}

    def _remove_targets(self, asked: Parameters) -> Parameters:
        with self._lock:
            record = self._get(asked, "Rule")
            kept = {key: each for key, each in record["Targets"].items() if key not in asked["Ids"]}
            self._keep(_key(record["EventBusName"], record["Name"]), {**record, "Targets": kept})
        return {"FailedEntryCount": 0, "FailedEntries": []}

    def _list_targets(self, asked: Parameters) -> Parameters:
        found = self._get(asked, "Rule")["Targets"].values()
        return list_page("Targets", found, asked, lambda each: str(each["Id"]))

    # ── records ──

    def _get(self, asked: Parameters, member: str) -> Parameters:
        bus, name = self._bus_of(asked), asked[member]
        record = self._records.get(_key(bus, name))
        if record is None:
            raise not_found(f"Rule {name} does not exist on EventBus {bus}.")
        return record

    def _keep(self, key: str, record: Parameters) -> None:
        """Write the record first: what can't be written is not used."""
        self._records.put(key, record)
        self._use(key, record)

    def _use(self, key: str, record: Parameters | None) -> None:
        self._by_key.pop(key, None)
        if record is not None and record["State"] == "ENABLED":
            self._by_key[key] = self._rule(record)
        self._enabled = tuple(self._by_key.values())

    def _rule(self, record: Parameters) -> Rule:
        pattern, expression = record.get("EventPattern"), record.get("ScheduleExpression")
        return Rule(
            record=record,
            matches=None if pattern is None else compile_pattern(pattern),
            schedule=None if expression is None else parse_schedule(expression),
            targets=tuple(self._kinds.target(each, record) for each in record["Targets"].values()),
        )

    def _keys_of(self, bus: str) -> list[str]:
        suffix = _suffix(bus)
        return [key for key in self._records if key.partition("@")[2] == suffix]

    def _of_bus(self, bus: str) -> Iterable[Parameters]:
        for key in self._keys_of(bus):
            record = self._records.get(key)
            if record is not None:
                yield record

    def _by_arn(self, arn: str) -> tuple[str, Parameters]:
        bus, _, name = arn.partition(":rule/")[2].rpartition("/")
        key = _key(bus or DEFAULT_BUS, name)
        record = self._records.get(key)
        if record is None or record["Arn"] != arn:
            raise not_found(f"Rule {arn} does not exist.")
        return key, record

    def _arn(self, bus: str, name: str) -> str:
        place = name if bus == DEFAULT_BUS else f"{bus}/{name}"
        return self._account.arn("events", f"rule/{place}")


def _ignore() -> None: ...


def _check_rule(asked: Parameters, bus: str) -> None:
    """Raise AwsError."""
    if "EventPattern" not in asked and "ScheduleExpression" not in asked:
        raise invalid("Parameter(s) EventPattern or ScheduleExpression must be specified.")
    if asked.get("State", "ENABLED") not in {"ENABLED", "DISABLED"}:
        raise not_here(f"State {asked['State']}", "Use ENABLED: there is no CloudTrail here")
    if "EventPattern" in asked:
        compile_pattern(asked["EventPattern"])
    if "ScheduleExpression" in asked:
        if bus != DEFAULT_BUS:
            raise invalid("ScheduleExpression is supported only on the default event bus.")
        parse_schedule(asked["ScheduleExpression"])


def _key(bus: str, name: str) -> str:
    """Return the name of a rule's file: its own, with a digest of the bus if it has another."""
    return name if bus == DEFAULT_BUS else f"{name}@{_suffix(bus)}"


def _suffix(bus: str) -> str:
    return "" if bus == DEFAULT_BUS else hashlib.sha256(bus.encode()).hexdigest()[:16]
