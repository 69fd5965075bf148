"""Connections and API destinations: the http targets that scripts for AWS create.

A connection is authorized at once. Its secrets are in the state folder, which only its owner can
read, and in no answer.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.records import Records, now
from sagemaker_byoc.region.core.urls import check_url, require_owner
from sagemaker_byoc.region.services.events.deliveries import DeliveryError
from sagemaker_byoc.region.services.events.errors import exists, invalid, not_found, not_here
from sagemaker_byoc.region.services.events.http_targets import (
    HttpCall,
    destination_call,
    with_body_parameters,
)
from sagemaker_byoc.region.services.events.request_members import list_page
from sagemaker_byoc.region.wire.operations import Operations, Parameters

RATE = 300
"""Calls per second if an API destination has no limit [user guide]."""
_LISTED = ("ConnectionArn", "Name", "CreationTime", "LastModifiedTime")
_MEMBERS = {"API_KEY": "ApiKeyAuthParameters", "BASIC": "BasicAuthParameters"}
_TIMES = ("CreationTime", "LastModifiedTime")


class Connections:
    def __init__(self, state: Path, account: Account) -> None:
        self._records = Records(state / "events" / "connections")
        self._account = account
        self._lock = threading.Lock()

    def operations(self) -> Operations:
        return {
            "CreateConnection": self._create,
            "DeleteConnection": self._delete,
            "DescribeConnection": self._describe,
            "ListConnections": self._list,
            "UpdateConnection": self._update,
        }

    def by_arn(self, arn: str) -> Parameters | None:
        record = self._records.get(arn.rpartition(":connection/")[2].partition("/")[0])
        return record if record is not None and record["ConnectionArn"] == arn else None

    def _get(self, name: str) -> Parameters:
        record = self._records.get(name)
        if record is None:
            raise not_found(f"Failed to describe the connection(s). Connection '{name}' does not"
                            " exist.")  # fmt: skip
        return record

    def _create(self, asked: Parameters) -> Parameters:
        require_owner()
        _check_connection(asked)
        name, time = asked["Name"], now()
        arn = self._account.arn("events", f"connection/{name}/{uuid.uuid4()}")
        record = {**asked, "ConnectionArn": arn, "CreationTime": time, "LastModifiedTime": time}
        if not self._records.add(name, record):
            raise exists(f"Connection {name} already exists.")
        return _answer(record, "AUTHORIZED")

    def _update(self, asked: Parameters) -> Parameters:
        require_owner()
        with self._lock:
            record = {**self._get(asked["Name"]), **asked, "LastModifiedTime": now()}
            _check_connection(record)
            self._records.put(asked["Name"], record)
        return {**_answer(record, "AUTHORIZED"), "LastAuthorizedTime": record["LastModifiedTime"]}

    def _delete(self, asked: Parameters) -> Parameters:
        with self._lock:
            record = self._get(asked["Name"])
            self._records.remove(asked["Name"])
        return _answer(record, "DELETING")

    def _describe(self, asked: Parameters) -> Parameters:
        record = self._get(asked["Name"])
        auth = record["AuthParameters"]
        shown: dict[str, Any] = {
            member: {name: auth[member][name]}
            for member, name in (
                ("ApiKeyAuthParameters", "ApiKeyName"),
                ("BasicAuthParameters", "Username"),
            )
            if member in auth
        }
        if "InvocationHttpParameters" in auth:
            shown["InvocationHttpParameters"] = {
                kind: [_without_secret(each) for each in pairs]
                for kind, pairs in auth["InvocationHttpParameters"].items()
            }
        secret = f"secret:events/connection/{record['Name']}"
        return {
            **self._summary(record),
            "AuthParameters": shown,
            "Description": record.get("Description"),
            "SecretArn": self._account.arn("secretsmanager", secret),
        }

    def _list(self, asked: Parameters) -> Parameters:
        wanted = asked.get("ConnectionState", "AUTHORIZED") == "AUTHORIZED"
        records = [self._records.get(name) for name in self._records] if wanted else []
        found = [self._summary(record) for record in records if record is not None]
        return list_page("Connections", found, asked, lambda each: str(each["Name"]))

    def _summary(self, record: Parameters) -> Parameters:
        shown = {name: record[name] for name in (*_LISTED, "AuthorizationType")}
        authorized = {"LastAuthorizedTime": record["LastModifiedTime"]}
        return {**shown, **authorized, "ConnectionState": "AUTHORIZED"}


class ApiDestinations:
    """An API destination is a target of rules by its ARN."""

    def __init__(self, state: Path, account: Account, connections: Connections) -> None:
        self._records = Records(state / "events" / "api-destinations")
        self._account = account
        self._connections = connections
        self._lock = threading.Lock()

    def operations(self) -> Operations:
        return {
            "CreateApiDestination": self._create,
            "DeleteApiDestination": self._delete,
            "DescribeApiDestination": self._describe,
            "ListApiDestinations": self._list,
            "UpdateApiDestination": self._update,
        }

    def by_arn(self, arn: str) -> Parameters | None:
        record = self._records.get(arn.rpartition(":api-destination/")[2].partition("/")[0])
        return record if record is not None and record["ApiDestinationArn"] == arn else None

    def call(self, arn: str, parameters: Parameters, text: str) -> tuple[HttpCall, str]:
        """Return the call of an API destination and its body. Raise DeliveryError."""
        destination = self.by_arn(arn)
        if destination is None:
            raise DeliveryError(f"{arn} does not exist", is_final=True)
        connection = self._connections.by_arn(destination["ConnectionArn"])
        if connection is None:
            raise DeliveryError(f"{destination['ConnectionArn']} does not exist", is_final=True)
        call = destination_call(destination, connection, parameters)
        return call, with_body_parameters(text, connection)

    def rate(self, arn: str) -> int:
        """Return the most calls per second."""
        destination = self.by_arn(arn) or {}
        rate: int = destination.get("InvocationRateLimitPerSecond", RATE)
        return rate

    def _get(self, name: str) -> Parameters:
        record = self._records.get(name)
        if record is None:
            raise not_found(f"Failed to describe the api-destination(s). An api-destination"
                            f" '{name}' does not exist.")  # fmt: skip
        return record

    def _create(self, asked: Parameters) -> Parameters:
        require_owner()
        self._check(asked)
        name, time = asked["Name"], now()
        arn = self._account.arn("events", f"api-destination/{name}/{uuid.uuid4()}")
        times = {"CreationTime": time, "LastModifiedTime": time}
        record = {"InvocationRateLimitPerSecond": RATE, **asked, "ApiDestinationArn": arn, **times}
        if not self._records.add(name, record):
            raise exists(f"An api-destination '{name}' already exists.")
        return self._answer(record)

    def _update(self, asked: Parameters) -> Parameters:
        require_owner()
        with self._lock:
            record = {**self._get(asked["Name"]), **asked, "LastModifiedTime": now()}
            self._check(record)
            self._records.put(asked["Name"], record)
        return self._answer(record)

    def _delete(self, asked: Parameters) -> Parameters:
        with self._lock:
            self._get(asked["Name"])
            self._records.remove(asked["Name"])
        return {}

    def _describe(self, asked: Parameters) -> Parameters:
        return self._shown(self._get(asked["Name"]))

    def _list(self, asked: Parameters) -> Parameters:
        arn = asked.get("ConnectionArn")
        records = [self._records.get(name) for name in self._records]
        found = [self._shown(record) for record in records if record is not None]
        for each in found:
            each.pop("Description", None)
        wanted = [each for each in found if arn in {None, each["ConnectionArn"]}]
        return list_page("ApiDestinations", wanted, asked, lambda each: str(each["Name"]))

    def _check(self, record: Parameters) -> None:
        check_url(record["InvocationEndpoint"])
        if self._connections.by_arn(record["ConnectionArn"]) is None:
            raise not_found(f"Connection '{record['ConnectionArn']}' does not exist.")

    def _shown(self, record: Parameters) -> Parameters:
        return {**record, "ApiDestinationState": self._state(record)}

    def _state(self, record: Parameters) -> str:
        connection = self._connections.by_arn(record["ConnectionArn"])
        return "INACTIVE" if connection is None else "ACTIVE"

    def _answer(self, record: Parameters) -> Parameters:
        times = {name: record[name] for name in _TIMES}
        arn = record["ApiDestinationArn"]
        return {"ApiDestinationArn": arn, "ApiDestinationState": self._state(record), **times}


def _check_connection(record: Parameters) -> None:
    kind = record["AuthorizationType"]
    if kind == "OAUTH_CLIENT_CREDENTIALS":
        raise not_here(f"AuthorizationType {kind}", "Use API_KEY or BASIC")
    for member in ("KmsKeyIdentifier", "InvocationConnectivityParameters"):
        if member in record:
            raise not_here(member, "Leave it out")
    auth = record["AuthParameters"]
    if "ConnectivityParameters" in auth:
        raise not_here("AuthParameters.ConnectivityParameters", "Leave it out")
    wanted = _MEMBERS[kind]
    if wanted not in auth:
        raise invalid(f"AuthorizationType {kind} needs AuthParameters.{wanted}")
    for member in (*_MEMBERS.values(), "OAuthParameters"):
        if member != wanted and member in auth:
            raise invalid(f"AuthorizationType {kind} may not have AuthParameters.{member}")


def _without_secret(pair: Mapping[str, Any]) -> dict[str, Any]:
    return {name: pair[name] for name in pair if name != "Value" or not pair.get("IsValueSecret")}


def _answer(record: Parameters, state: str) -> Parameters:
    times = {name: record[name] for name in _TIMES}
    return {"ConnectionArn": record["ConnectionArn"], "ConnectionState": state, **times}
