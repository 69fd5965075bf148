"""The interface of a service: operations by name, which the wire validates and serializes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Parameters: TypeAlias = dict[str, Any]
"""Values as the service model names and types them: aware datetimes, bytes for blobs."""

Operation: TypeAlias = Callable[[Parameters], Awaitable[Parameters]]
"""A coroutine of parameters that the service model has accepted; it may raise AwsError."""


@dataclass(frozen=True, slots=True)
class Service:
    """`name` is botocore's: sagemaker, ecr, logs, sts, iam."""

    name: str
    operations: Mapping[str, Operation]
