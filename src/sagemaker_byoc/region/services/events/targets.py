"""Targets of rules by kind: URLs, API destinations, log groups, and what other services add."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.core.urls import check_url, is_url, require_owner
from sagemaker_byoc.region.services.events.api_destinations import ApiDestinations
from sagemaker_byoc.region.services.events.deliveries import DeliveryError
from sagemaker_byoc.region.services.events.errors import invalid, not_here
from sagemaker_byoc.region.services.events.http_targets import url_call
from sagemaker_byoc.region.services.events.inputs import (
    Fill,
    Render,
    make_fill,
    make_render,
)
from sagemaker_byoc.region.services.logs.log_store import Event as LogEvent
from sagemaker_byoc.region.services.logs.log_store import LogStore
from sagemaker_byoc.region.wire.operations import Parameters

MOST_RETRIES, MOST_SECONDS = 185, 86_400
"""What a target without a RetryPolicy has [user guide]."""
_SHARED = frozenset(
    {"Id", "Arn", "RoleArn", "Input", "InputPath", "InputTransformer", "RetryPolicy"}
    | {"DeadLetterConfig"}
)
"""Members of any target. The file of undelivered events takes the place of a dead-letter queue."""
_ARN = re.compile(r"arn:aws[\w-]*:(?P<service>[\w-]+):[\w-]*:\d*:(?P<resource>.+)")


class TargetKind(Protocol):
    """A kind of target."""

    members: frozenset[str]
    """Members of a target that only this kind has."""

    def check(self, target: Parameters) -> None:
        """Raise AwsError for a target that events can't be sent to."""

    def send(self, target: Parameters, rule: Parameters, text: str) -> None:
        """Deliver; block for a bounded time. Raise DeliveryError."""

    def spacing(self, target: Parameters) -> float:
        """Return the seconds between two deliveries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A target of a rule, ready to be sent to."""

    parameters: Parameters
    kind: TargetKind
    render: Render
    fill: Fill
    """Returns the parameters for an event."""


class TargetKinds:
    """`others` are kinds of other services by what their ARNs begin with, after the account:
    `sagemaker:pipeline/`.
    """

    def __init__(
        self,
        destinations: ApiDestinations,
        logs: LogStore,
        others: Mapping[str, TargetKind],
    ) -> None:
        self._url = _Url()
        self._kinds: dict[str, TargetKind] = {
            "events:api-destination/": _ApiDestination(destinations),
            "logs:log-group:": _LogGroup(logs),
            **others,
        }

    def target(self, parameters: Parameters, rule: Parameters) -> Target:
        """Raise AwsError for a target that this region can't send to."""
        kind = self._kind(parameters["Arn"])
        for name in parameters:
            if name not in _SHARED | kind.members:
                raise not_here(f"{name} of a target {parameters['Arn']}", "Leave it out")
        return Target(
            parameters=parameters,
            kind=kind,
            render=make_render(parameters, rule),
            fill=make_fill(parameters),
        )

    def _kind(self, arn: str) -> TargetKind:
        if is_url(arn):
            return self._url
        found = _ARN.fullmatch(arn)
        if found is None:
            text = "Provided Arn is not in correct format."
            raise invalid(f"Parameter {arn} is not valid. Reason: {text}")
        place = f"{found['service']}:{found['resource']}"
        for start, kind in self._kinds.items():
            if place.startswith(start):
                return kind
        raise not_here(
            f"A target of {found['service']} ({arn})",
            "Create an API destination, name a log group, or give a URL of http as the Arn",
        )


class _Url:
    """A URL in the place of an ARN, which the cloud does not have."""

    members = frozenset({"HttpParameters"})

    def check(self, target: Parameters) -> None:
        require_owner()
        check_url(target["Arn"])
        if "PathParameterValues" in target.get("HttpParameters", {}):
            raise not_here("PathParameterValues of a URL", "Write them into the URL")

    def send(self, target: Parameters, _rule: Parameters, text: str) -> None:
        url_call(target["Arn"], target.get("HttpParameters", {})).send(text)

    def spacing(self, _target: Parameters) -> float:
        return 0.0


class _ApiDestination:
    members = frozenset({"HttpParameters"})

    def __init__(self, destinations: ApiDestinations) -> None:
        self._destinations = destinations

    def check(self, target: Parameters) -> None:
        arn = target["Arn"]
        if "RoleArn" not in target:
            raise invalid(f"RoleArn is required for target {arn}.")
        if self._destinations.by_arn(arn) is None:
            raise invalid(f"Parameter {arn} is not valid. Reason: it does not exist.")

    def send(self, target: Parameters, _rule: Parameters, text: str) -> None:
        parameters = target.get("HttpParameters", {})
        call, body = self._destinations.call(target["Arn"], parameters, text)
        call.send(body)

    def spacing(self, target: Parameters) -> float:
        return 1.0 / self._destinations.rate(target["Arn"])


class _LogGroup:
    """A log group, in which each rule has a stream of its name.

    An input of the form {"timestamp": …, "message": …} is the log event [user guide]; any other
    is the message of one. A group that does not exist is made.
    """

    members: frozenset[str] = frozenset()

    def __init__(self, logs: LogStore) -> None:
        self._logs = logs

    def check(self, target: Parameters) -> None:
        if not _group(target["Arn"]):
            raise invalid(f"Parameter {target['Arn']} is not valid. Reason: it names no log group.")

    def send(self, target: Parameters, rule: Parameters, text: str) -> None:
        try:
            stream = self._logs.open(_group(target["Arn"]), rule["Name"])
            try:
                stream.put([_log_event(text)])
            finally:
                stream.close()
        except OSError as error:
            raise DeliveryError(f"{target['Arn']} can't be written ({error})") from error

    def spacing(self, _target: Parameters) -> float:
        return 0.0


def _group(arn: str) -> str:
    """Return the name in `arn:aws:logs:REGION:ACCOUNT:log-group:NAME`, and in NAME:*."""
    return arn.partition(":log-group:")[2].removesuffix(":*").partition(":")[0]


def _log_event(text: str) -> LogEvent:
    with suppress(ValueError, RecursionError):
        match json.loads(text):
            case {"timestamp": int(time), "message": str(message)} if time >= 0:
                return LogEvent(time, message)
    return LogEvent(round(now().timestamp() * 1000), text)
