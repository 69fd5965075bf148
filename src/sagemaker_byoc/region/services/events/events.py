"""EventBridge: events that are put, and their way from the region's bus to the targets of rules."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sagemaker_byoc.region.core import tags
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.event_bus import Event, EventBus
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.events.api_destinations import ApiDestinations, Connections
from sagemaker_byoc.region.services.events.buses import Buses
from sagemaker_byoc.region.services.events.deliveries import (
    Deliveries,
    Delivery,
    DeliveryError,
)
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

LOG = logging.getLogger(__name__)

MOST_BYTES = 1 << 20
"""Size that all entries of a PutEvents request stay below [model: PutEvents]."""
MOST_DEPTH = 900
"""Nesting of a detail: what is deeper can't be written as JSON again everywhere."""
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
            if is_of(rule, event) or _matches(rule, document):
                for target in rule.targets:
                    self._deliveries.put(_delivery_or_failure(rule, target, document))

    # ── operations ──

    def _put_events(self, asked: Parameters) -> Parameters:
        if "EndpointId" in asked:
            raise not_here("EndpointId", "Global endpoints have several regions")
        entries = asked["Entries"]
        if sum(map(_size, entries)) >= MOST_BYTES:
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
        text = "Too many events wait to be delivered: put this one again later."
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
        if _is_too_deep(entry["Detail"], detail):
            raise AwsError("MalformedDetail", f"Detail is nested deeper than {MOST_DEPTH} levels.")
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
            size=_size(entry),
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


def _matches(rule: Rule, document: Mapping[str, Any]) -> bool:
    try:
        return rule.matches is not None and rule.matches(document)
    except Exception:  # other rules get the event
        LOG.exception("%s can't be matched with the event %s", rule.arn, document["id"])
        return False


def _delivery_or_failure(rule: Rule, target: Target, document: Mapping[str, Any]) -> Delivery:
    """Return the delivery to a target, or one that fails: the other targets get the event."""
    try:
        return _delivery(rule, target, document)
    except Exception as error:
        LOG.exception("%s: the input for the event %s can't be made", rule.arn, document["id"])
        reason = f"its input can't be made: {error!r}"

    def fail() -> None:
        raise DeliveryError(reason, is_final=True)

    text = json.dumps({"id": document["id"]})
    return Delivery(
        target=_name(rule, target), text=text, send=fail, most_retries=0, most_seconds=0
    )


def _name(rule: Rule, target: Target) -> str:
    return f"{rule.arn} target {target.parameters['Id']} ({target.parameters['Arn']})"


def _delivery(rule: Rule, target: Target, document: Mapping[str, Any]) -> Delivery:
    parameters, record = target.fill(document), rule.record
    policy = parameters.get("RetryPolicy", {})
    text = target.render(document)
    return Delivery(
        target=_name(rule, target),
        text=text,
        send=lambda: target.kind.send(parameters, record, text),
        most_retries=policy.get("MaximumRetryAttempts", MOST_RETRIES),
        most_seconds=policy.get("MaximumEventAgeInSeconds", MOST_SECONDS),
        destination=parameters["Arn"],
        spacing=target.kind.spacing(parameters),
    )


def _is_too_deep(text: str, detail: Parameters) -> bool:
    if sum(map(text.count, "{[")) <= MOST_DEPTH:
        return False
    depth = 0
    level: list[Any] = [detail]
    while level and depth <= MOST_DEPTH:
        depth += 1
        below = (each.values() if isinstance(each, dict) else each for each in level)
        level = [value for values in below for value in values if isinstance(value, (dict, list))]
    return depth > MOST_DEPTH


def _size(entry: Parameters) -> int:
    """Return the bytes of an entry as EventBridge counts them [user guide]."""
    texts = [entry.get(name, "") for name in ("Source", "DetailType", "Detail")]
    texts += entry.get("Resources", ())
    return sum(len(text.encode()) for text in texts) + (_TIME_BYTES if "Time" in entry else 0)
