"""What a service of the region is: operations by name, validated and serialized by the wire."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Parameters: TypeAlias = dict[str, Any]
"""As the service model names and types them: timestamps are aware datetimes, blobs are bytes."""

Operation: TypeAlias = Callable[[Parameters], Awaitable[Parameters]]
"""Gets parameters that the service model has accepted; raises AwsError."""


@dataclass(frozen=True, slots=True)
class Service:
    """`name` is botocore's: sagemaker, ecr, logs, sts, iam."""

    name: str
    operations: Mapping[str, Operation]
