"""The operations of CloudWatch Logs, on the files of a LogStore."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from sagemaker_byoc.region.core import paging
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.logs.filter_events import (
    Question,
    invalid,
    invalid_token,
    parse_pattern,
    search,
)
from sagemaker_byoc.region.services.logs.log_store import (
    Event,
    Located,
    LogStore,
    StreamFacts,
    fits,
)
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters

PAGE = 50
"""Groups or streams of one answer, if the request has no limit [model]."""
EVENTS = 10_000
BYTES = 1 << 20
"""Limits of one answer of GetLogEvents [model: GetLogEvents]."""
_TOKEN = re.compile(r"(?P<way>[fb])/(?P<offset>\d{1,18})/s")
_HOUR = 3_600_000
_OLDEST, _NEWEST, _BATCH_SPAN = 14 * 24 * _HOUR, 2 * _HOUR, 24 * _HOUR
_BATCH_BYTES = 1 << 20
_EVENT_OVERHEAD = 26
"""Limits of PutLogEvents, in milliseconds and bytes [model: PutLogEvents]."""


class Logs:
    """Events are kept in the order in which they arrive; the token of a reader is a byte offset."""

    def __init__(self, store: LogStore, account: Account) -> None:
        self._store = store
        self._account = account

    def operations(self) -> Operations:
        return {
            "CreateLogGroup": self._create_group,
            "CreateLogStream": self._create_stream,
            "DeleteLogGroup": self._delete_group,
            "DeleteLogStream": self._delete_stream,
            "DescribeLogGroups": self._describe_groups,
            "DescribeLogStreams": self._describe_streams,
            "FilterLogEvents": self._filter_events,
            "GetLogEvents": self._get_events,
            "PutLogEvents": self._put_events,
        }

    def _create_group(self, parameters: Parameters) -> Parameters:
        _refuse(parameters, kmsKeyId=None, tags={}, deletionProtectionEnabled=False)
        _refuse(parameters, logGroupClass="STANDARD")
        _check_length("logGroupName", parameters["logGroupName"])
        if not self._store.create_group(parameters["logGroupName"]):
            raise _exists("log group")
        return {}

    def _create_stream(self, parameters: Parameters) -> Parameters:
        group = self._group(parameters)
        _check_length("logStreamName", parameters["logStreamName"])
        if not self._store.create_stream(group, parameters["logStreamName"]):
            raise _exists("log stream")
        return {}

    def _delete_group(self, parameters: Parameters) -> Parameters:
        self._store.delete_group(self._group(parameters))
        return {}

    def _delete_stream(self, parameters: Parameters) -> Parameters:
        self._store.delete_stream(*self._stream(parameters))
        return {}

    def _put_events(self, parameters: Parameters) -> Parameters:
        group, name = self._stream(parameters)
        events = [Event(item["timestamp"], item["message"]) for item in parameters["logEvents"]]
        _check_batch(events)
        kept, rejected = _split(events, round(now().timestamp() * 1000))
        if kept and kept[-1].milliseconds - kept[0].milliseconds > _BATCH_SPAN:
            raise invalid(
                "The batch of log events in a single PutLogEvents request cannot span more than 24"
                " hours."
            )
        answer: Parameters = {"rejectedLogEventsInfo": rejected} if rejected else {}
        if "entity" in parameters:
            answer["rejectedEntityInfo"] = {"errorType": "UnsupportedLogGroupType"}
        stream = self._store.open(group, name)
        try:
            return {"nextSequenceToken": f"{stream.put(kept):056d}", **answer}
        finally:
            stream.close()

    def _describe_groups(self, parameters: Parameters) -> Parameters:
        prefix = parameters.get("logGroupNamePrefix", "")
        part = parameters.get("logGroupNamePattern", "")
        named = parameters.get("logGroupIdentifiers")
        accounts = parameters.get("accountIdentifiers", [self._account.id])
        elsewhere = self._account.id not in accounts
        other_class = parameters.get("logGroupClass", "STANDARD") != "STANDARD"
        wanted = None if named is None else {_group_name(name) for name in named}
        names = [
            name
            for name in ([] if elsewhere or other_class else self._store.groups())
            if name.startswith(prefix)
            and part.lower() in name.lower()
            and (wanted is None or name in wanted)
        ]
        found, token = _page([(name,) for name in names], parameters)
        return {"logGroups": [self._group_document(name) for name in found], "nextToken": token}

    def _describe_streams(self, parameters: Parameters) -> Parameters:
        group = self._group(parameters)
        prefix = parameters.get("logStreamNamePrefix", "")
        by_time = parameters.get("orderBy") == "LastEventTime"
        if by_time and prefix:
            raise invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        places = [
            (f"{self._store.facts(group, name).last or 0:020d}" if by_time else "", name)
            for name in self._store.streams(group, prefix)
        ]
        found, token = _page(places, parameters, descending=parameters.get("descending", False))
        streams = [self._stream_document(group, self._store.facts(group, name)) for name in found]
        return {"logStreams": streams, "nextToken": token}

    def _get_events(self, parameters: Parameters) -> Parameters:
        """Return a page. At either end of the stream its token is the one sent: SDKs then stop."""
        group, name = self._stream(parameters)
        head = parameters.get("startFromHead", False)
        way: str = "f" if head else "b"
        offset: int | None = 0 if head else None
        if "nextToken" in parameters:
            way, offset = _parse_token(parameters["nextToken"])
            if offset > self._store.facts(group, name).size:
                raise invalid_token()
        try:
            source = (
                self._store.forward(group, name, offset or 0)
                if way == "f"
                else self._store.backward(group, name, offset)
            )
            taken = _take(source, _within(parameters), _limit(parameters, EVENTS))
        except ValueError as error:
            raise invalid_token() from error
        start, end = taken.span(way, offset)
        return {
            "events": [_event_document(located.event) for located in taken.in_order()],
            "nextForwardToken": _token("f", end),
            "nextBackwardToken": _token("b", start),
        }

    def _filter_events(self, parameters: Parameters) -> Parameters:
        _refuse(parameters, startFromHead=True)
        group = self._group(parameters)
        names = self._store.streams(group, parameters.get("logStreamNamePrefix", ""))
        if "logStreamNames" in parameters:
            if "logStreamNamePrefix" in parameters:
                raise invalid(
                    "Both logStreamNames and logStreamNamePrefix are given. Give one of them."
                )
            names = parameters["logStreamNames"]
            if not all(self._store.has_stream(group, name) for name in names):
                raise _missing("log stream")
        question = Question(
            pattern=parse_pattern(parameters.get("filterPattern", "")),
            within=_within(parameters),
            limit=_limit(parameters, EVENTS),
            token=parameters.get("nextToken"),
        )
        return search(self._store, group, names, question)

    def _group(self, parameters: Parameters) -> str:
        name = parameters.get("logGroupName") or parameters.get("logGroupIdentifier")
        if not name:
            raise invalid("logGroupName is missing.")
        group = _group_name(name)
        if not self._store.has_group(group):
            raise _missing("log group")
        return group

    def _stream(self, parameters: Parameters) -> tuple[str, str]:
        group = self._group(parameters)
        if not self._store.has_stream(group, parameters["logStreamName"]):
            raise _missing("log stream")
        return group, parameters["logStreamName"]

    def _group_document(self, group: str) -> dict[str, Any]:
        arn = self._account.arn("logs", f"log-group:{group}")
        return {
            "logGroupName": group,
            "creationTime": self._store.created(group),
            "metricFilterCount": 0,
            "arn": f"{arn}:*",
            "logGroupArn": arn,
            "logGroupClass": "STANDARD",
            "deletionProtectionEnabled": False,
            "storedBytes": self._store.size(group),
        }

    def _stream_document(self, group: str, facts: StreamFacts) -> dict[str, Any]:
        return {
            "logStreamName": facts.name,
            "creationTime": facts.created,
            "firstEventTimestamp": facts.first,
            "lastEventTimestamp": facts.last,
            "lastIngestionTime": facts.last,
            "arn": self._account.arn("logs", f"log-group:{group}:log-stream:{facts.name}"),
            "storedBytes": facts.size,
        }


@dataclass(slots=True)
class _Taken:
    """The events of one answer, in the order of reading."""

    events: list[Located] = field(default_factory=list)
    first: Located | None = None
    """The first and the last event that were read, also if they were not wanted."""
    last: Located | None = None

    def span(self, way: str, offset: int | None) -> tuple[int, int]:
        """Return the offsets before and after everything that was read."""
        if self.first is None or self.last is None:
            return offset or 0, offset or 0
        if way == "f":
            return self.first.start, self.last.end
        return self.last.start, self.first.end

    def in_order(self) -> list[Located]:
        return sorted(self.events, key=lambda located: located.start)


def _take(source: Iterable[Located], wanted: Callable[[Event], bool], limit: int) -> _Taken:
    taken = _Taken()
    size = 0
    for located in source:
        if wanted(located.event):
            size += located.end - located.start
            if taken.events and size > BYTES:
                break
            taken.events.append(located)
        taken.first = taken.first or located
        taken.last = located
        if len(taken.events) == limit:
            break
    return taken


def _within(parameters: Parameters) -> Callable[[Event], bool]:
    start, end = parameters.get("startTime"), parameters.get("endTime")

    def wanted(event: Event) -> bool:
        return (start is None or event.milliseconds >= start) and (
            end is None or event.milliseconds < end
        )

    return wanted


def _limit(parameters: Parameters, default: int) -> int:
    asked: int = parameters.get("limit", default)
    return min(asked, default)


def _page(
    places: Iterable[paging.Place], parameters: Parameters, *, descending: bool = False
) -> tuple[list[str], str | None]:
    """Return the names of one page, which are last in their places, and the next page's token."""
    try:
        found, token = paging.page(
            places,
            lambda place: place,
            size=_limit(parameters, PAGE),
            token=parameters.get("nextToken"),
            descending=descending,
        )
    except paging.TokenError as error:
        raise invalid_token() from error
    return [place[-1] for place in found], token


def _event_document(event: Event) -> dict[str, Any]:
    return {
        "timestamp": event.milliseconds,
        "message": event.text,
        "ingestionTime": event.milliseconds,
    }


def _group_name(identifier: str) -> str:
    """Return a group's name, given its name or its ARN."""
    return identifier.partition(":log-group:")[2].removesuffix(":*") or identifier


def _refuse(parameters: Parameters, **usual: object) -> None:
    """Raise AwsError for a member that would be lost, unless it has its usual value."""
    for name, value in usual.items():
        if parameters.get(name, value) != value:
            raise invalid(f"{name} is not supported by this local region: leave it out")


def _check_batch(events: list[Event]) -> None:
    if any(a.milliseconds > b.milliseconds for a, b in pairwise(events)):
        raise invalid("Log events in a single PutLogEvents request must be in chronological order.")
    size = sum(len(event.text.encode()) + _EVENT_OVERHEAD for event in events)
    if size > _BATCH_BYTES:
        raise invalid(f"Upload too large: {size} bytes exceeds limit of {_BATCH_BYTES}")


def _split(events: list[Event], now_ms: int) -> tuple[list[Event], dict[str, int]]:
    """Return the events to keep, and the indexes of those that are too old or too new."""
    times = [event.milliseconds for event in events]
    first = bisect_left(times, now_ms - _OLDEST)
    end = bisect_right(times, now_ms + _NEWEST)
    rejected = {}
    if first:
        rejected["tooOldLogEventEndIndex"] = first
    if end < len(events):
        rejected["tooNewLogEventStartIndex"] = end
    return events[first:end], rejected


def _check_length(member: str, name: str) -> None:
    if not fits(name):
        raise invalid(
            f"{member} {name!r} is too long for a file's name in this local region; shorten it"
        )


def _exists(kind: str) -> AwsError:
    return AwsError("ResourceAlreadyExistsException", f"The specified {kind} already exists")


def _missing(kind: str) -> AwsError:
    return AwsError("ResourceNotFoundException", f"The specified {kind} does not exist.")


def _token(way: str, offset: int) -> str:
    """Return a token like CloudWatch's: `f` reads forward from `offset`, `b` backward."""
    return f"{way}/{offset:018d}/s"


def _parse_token(token: str) -> tuple[str, int]:
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise invalid_token()
    return found["way"], int(found["offset"])
