"""EventBridge: events that are put, and their way from the region's bus to the targets of rules."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sagemaker_byoc.region.core import tags
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.event_bus import MOST_QUEUED, Event, EventBus
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.events.api_destinations import ApiDestinations, Connections
from sagemaker_byoc.region.services.events.buses import Buses
from sagemaker_byoc.region.services.events.deliveries import Deliveries, Delivery
from sagemaker_byoc.region.services.events.errors import invalid, not_here
from sagemaker_byoc.region.services.events.patterns import compile_pattern
from sagemaker_byoc.region.services.events.request_members import ChangeTags, merged_tags
from sagemaker_byoc.region.services.events.rules import Rule, Rules
from sagemaker_byoc.region.services.events.scheduler import Scheduler, is_of
from sagemaker_byoc.region.services.events.targets import (
    MOST_RETRIES,
    MOST_SECONDS,
    Target,
    TargetKind,
    TargetKinds,
)
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters

MOST_BYTES = 256 << 10
"""Size of all entries of a PutEvents request [user guide]."""
_TIME_BYTES = 14
_REQUIRED = ("id", "account", "source", "time", "region", "resources", "detail-type")
"""Members that the event of TestEventPattern must have [model: TestEventPattern]."""


class Events:
    """A part of the region: it begins to deliver in `start`."""

    def __init__(
        self,
        state: Path,
        account: Account,
        *,
        bus: EventBus,
        logs: LogStore,
        kinds: Mapping[str, TargetKind] | None = None,
    ) -> None:
        """`kinds` are targets of other services: see TargetKinds."""
        self._account = account
        self._bus = bus
        self._connections = Connections(state, account)
        self._destinations = ApiDestinations(state, account, self._connections)
        self._buses = Buses(state, account)
        targets = TargetKinds(self._destinations, logs, kinds or {})
        self._rules = Rules(state, account, self._buses, targets)
        self._scheduler = Scheduler(self._rules.enabled, bus.publish)
        self._rules.changed = self._scheduler.wake
        self._deliveries = Deliveries(state)

    def operations(self) -> Operations:
        return {
            **self._connections.operations(),
            **self._destinations.operations(),
            **self._buses.operations(),
            **self._rules.operations(),
            "ListTagsForResource": self._list_tags,
            "PutEvents": self._put_events,
            "TagResource": self._tag,
            "TestEventPattern": self._test_pattern,
            "UntagResource": self._untag,
        }

    def start(self) -> None:
        self._deliveries.start()
        self._bus.listen(self._route)
        self._bus.start()
        self._scheduler.start()

    async def close(self) -> None:
        """End the schedules; the other parts may still publish until `finish`."""
        await self._scheduler.close()

    def finish(self) -> None:
        """Deliver what was published, for at most 10 s; call it in a thread."""
        self._bus.close()
        self._deliveries.close()

    # ── from the bus to the targets ──

    def _route(self, event: Event) -> None:
        document: dict[str, Any] | None = None
        for rule in self._rules.enabled():
            if rule.record["EventBusName"] != event.bus or not rule.targets:
                continue
            document = document or event.document(self._account)
            if is_of(rule, event) or (rule.matches is not None and rule.matches(document)):
                for target in rule.targets:
                    self._deliveries.put(_delivery(rule, target, document))

    # ── operations ──

    def _put_events(self, asked: Parameters) -> Parameters:
        if "EndpointId" in asked:
            raise not_here("EndpointId", "Global endpoints have several regions")
        entries = asked["Entries"]
        if sum(map(_size, entries)) > MOST_BYTES:
            raise invalid("Total size of the entries in the request is over the limit.")
        results = [self._put(entry) for entry in entries]
        failed = sum("ErrorCode" in result for result in results)
        return {"FailedEntryCount": failed, "Entries": results}

    def _put(self, entry: Parameters) -> Parameters:
        try:
            event = self._event(entry)
        except AwsError as error:
            return {"ErrorCode": error.code, "ErrorMessage": error.message}
        if self._bus.publish(event):
            return {"EventId": event.id}
        text = f"{MOST_QUEUED} events wait to be delivered: put this one again later."
        return {"ErrorCode": "ThrottlingException", "ErrorMessage": text}

    def _event(self, entry: Parameters) -> Event:
        """Return the event of an entry. Raise AwsError with the code of its result."""
        for name in ("Source", "DetailType", "Detail"):
            if not entry.get(name):
                reason = f"{name} is a required argument."
                raise AwsError(
                    "InvalidArgument", f"Parameter {name} is not valid. Reason: {reason}"
                )
        try:
            detail = json.loads(entry["Detail"])
            json.dumps(detail, allow_nan=False)
        except (ValueError, RecursionError):
            detail = None
        if not isinstance(detail, dict):
            raise AwsError("MalformedDetail", "Detail is malformed.")
        if entry["Source"].lower().startswith("aws."):
            raise AwsError(
                "NotAuthorizedForSourceException",
                f"Not authorized for the source {entry['Source']}.",
            )
        return Event(
            detail_type=entry["DetailType"],
            source=entry["Source"],
            detail=detail,
            resources=tuple(entry.get("Resources", ())),
            time=entry.get("Time") or now(),
            bus=self._buses.name_of(entry),
        )

    def _test_pattern(self, asked: Parameters) -> Parameters:
        matches = compile_pattern(asked["EventPattern"])
        try:
            event = json.loads(asked["Event"])
        except (ValueError, RecursionError) as error:
            raise invalid(f"Parameter Event is not valid. Reason: {error}") from error
        missing = [name for name in _REQUIRED if not isinstance(event, dict) or name not in event]
        if missing:
            raise invalid(f"Parameter Event is not valid. Reason: {', '.join(missing)} missing")
        return {"Result": matches(event)}

    def _list_tags(self, asked: Parameters) -> Parameters:
        found = self._tags(asked["ResourceARN"])
        return {"Tags": tags.as_list(found)}

    def _tag(self, asked: Parameters) -> Parameters:
        self._change_tags(asked["ResourceARN"], lambda old: merged_tags(old, asked["Tags"]))
        return {}

    def _untag(self, asked: Parameters) -> Parameters:
        self._change_tags(asked["ResourceARN"], lambda old: tags.without(old, asked["TagKeys"]))
        return {}

    def _tags(self, arn: str) -> dict[str, str]:
        if ":event-bus/" in arn:
            return self._buses.tags(self._buses.name_of({"EventBusName": arn}))
        return self._rules.tags(arn)

    def _change_tags(self, arn: str, change: ChangeTags) -> None:
        if ":event-bus/" in arn:
            self._buses.change_tags(self._buses.name_of({"EventBusName": arn}), change)
        else:
            self._rules.change_tags(arn, change)


def _delivery(rule: Rule, target: Target, document: Mapping[str, Any]) -> Delivery:
    parameters, record = target.fill(document), rule.record
    policy = parameters.get("RetryPolicy", {})
    text = target.render(document)
    return Delivery(
        target=f"{rule.arn} target {parameters['Id']} ({parameters['Arn']})",
        text=text,
        send=lambda: target.kind.send(parameters, record, text),
        most_retries=policy.get("MaximumRetryAttempts", MOST_RETRIES),
        most_seconds=policy.get("MaximumEventAgeInSeconds", MOST_SECONDS),
        spacing=target.kind.spacing(parameters),
    )


def _size(entry: Parameters) -> int:
    """Return the bytes of an entry as EventBridge counts them [user guide]."""
    texts = [entry.get(name, "") for name in ("Source", "DetailType", "Detail")]
    texts += entry.get("Resources", ())
    return sum(len(text.encode()) for text in texts) + (_TIME_BYTES if "Time" in entry else 0)
