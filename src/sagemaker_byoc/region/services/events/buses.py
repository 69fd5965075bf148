"""Event buses: the default one, to which this region's services publish, and those of clients."""

from __future__ import annotations

import threading
from pathlib import Path

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.event_bus import DEFAULT_BUS
from sagemaker_byoc.region.core.records import Records, now
from sagemaker_byoc.region.services.events.errors import (
    exists,
    invalid,
    limit_exceeded,
    not_found,
    not_here,
)
from sagemaker_byoc.region.services.events.request_members import (
    ChangeTags,
    list_page,
    merged_tags,
)
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters

MOST = 100
"""Event buses of a region [quota]."""
_LONGEST = 200
"""Characters of a name, which is that of a file; AWS allows 256."""
_REFUSED = ("EventSourceName", "KmsKeyIdentifier", "DeadLetterConfig", "LogConfig")
_LISTED = ("Name", "Arn", "Description", "CreationTime", "LastModifiedTime")


class Buses:
    def __init__(self, state: Path, account: Account) -> None:
        self._records = Records(state / "events" / "buses")
        self._account = account
        self._lock = threading.Lock()
        if DEFAULT_BUS not in self._records:
            self._records.settle(DEFAULT_BUS, self._new(DEFAULT_BUS))

    def operations(self) -> Operations:
        return {
            "CreateEventBus": self._create,
            "DescribeEventBus": self._describe,
            "ListEventBuses": self._list,
        }

    def name_of(self, asked: Parameters, member: str = "EventBusName") -> str:
        """Return the bus of a request, which names it, gives its ARN, or means the default one.

        Raise AwsError if it does not exist.
        """
        name: str = asked.get(member, DEFAULT_BUS)
        name = name.removeprefix(self._account.arn("events", "event-bus/"))
        if name not in self._records:
            raise _no_bus(name)
        return name

    def remove(self, name: str) -> None:
        """Delete a bus, if there is one of that name. Raise AwsError for the default one."""
        if name == DEFAULT_BUS:
            raise invalid("Cannot delete event bus default.")
        with self._lock:
            self._records.remove(name)

    def tags(self, name: str) -> dict[str, str]:
        return dict(self._get(name).get("Tags", {}))

    def change_tags(self, name: str, change: ChangeTags) -> None:
        """Raise AwsError if there is no such bus, and what `change` raises."""
        with self._lock:
            record = self._get(name)
            self._records.put(name, {**record, "Tags": change(record.get("Tags", {}))})

    def _get(self, name: str) -> Parameters:
        record = self._records.get(name)
        if record is None:
            raise _no_bus(name)
        return record

    def _new(self, name: str) -> Parameters:
        arn, time = self._account.arn("events", f"event-bus/{name}"), now()
        return {"Name": name, "Arn": arn, "CreationTime": time, "LastModifiedTime": time}

    def _create(self, asked: Parameters) -> Parameters:
        name = asked["Name"]
        for member in _REFUSED:
            if member in asked:
                raise not_here(member, "Leave it out")
        if "/" in name or len(name) > _LONGEST:
            raise invalid(f"Event bus name {name!r} may not have a slash, or over {_LONGEST} signs")
        record = {**self._new(name), "Tags": merged_tags({}, asked.get("Tags", ()))}
        record["Description"] = asked.get("Description")
        with self._lock:
            if len([*self._records]) >= MOST:
                raise limit_exceeded()
            if not self._records.add(name, record):
                raise exists(f"Event bus {name} already exists.")
        return {"EventBusArn": record["Arn"], "Description": record["Description"]}

    def _describe(self, asked: Parameters) -> Parameters:
        return _shown(self._get(self.name_of(asked, "Name")))

    def _list(self, asked: Parameters) -> Parameters:
        records = [self._records.get(name) for name in self._records]
        found = [_shown(record) for record in records if record is not None]
        return list_page("EventBuses", found, asked, lambda each: str(each["Name"]))


def _shown(record: Parameters) -> Parameters:
    return {name: record.get(name) for name in _LISTED}


def _no_bus(name: str) -> AwsError:
    return not_found(f"Event bus {name} does not exist.")
