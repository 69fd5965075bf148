"""State changes of SageMaker's resources as the events that AWS sends to EventBridge.

Sources: [guide] developer guide, "Events that Amazon SageMaker AI sends to Amazon EventBridge";
[seen] events in the tests of AWS's sample mlspace and of grand-challenge.org, which handle those of
the cloud; [recalled] neither.

- The detail is the Describe answer, with the tags as a map [guide].
- Times are milliseconds since 1970, as numbers [seen; in the guide, endpoints and processing jobs
  have numbers, training and tuning jobs the same numbers as texts, transform jobs ISO texts].
  Those of model packages are ISO texts [guide].
- The status of an endpoint is in upper case with underscores: IN_SERVICE [guide, seen].
- Members without a value are absent [guide]; those of the cloud are null in part [seen].
- An event of a model package says what was updated, in UpdatedModelPackageFields [guide].
- A model, a configuration and other resources without a status have one event when they are made
  and one when they are deleted, with the same detail [guide: models; recalled: the others].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sagemaker_byoc.region.core.event_bus import Event

TRAINING_JOB = "SageMaker Training Job State Change"
PROCESSING_JOB = "SageMaker Processing Job State Change"
TRANSFORM_JOB = "SageMaker Transform Job State Change"
TUNING_JOB = "SageMaker HyperParameter Tuning Job State Change"
MODEL = "SageMaker Model State Change"
MODEL_PACKAGE = "SageMaker Model Package State Change"
ENDPOINT_CONFIG = "SageMaker Endpoint Config State Change"
ENDPOINT = "SageMaker Endpoint State Change"
"""Words of AWS's list of SageMaker's events. It has none for model package groups."""

_SNAKE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def state_change(
    detail_type: str,
    arn: str,
    document: Mapping[str, Any],
    tags: Mapping[str, str],
) -> Event:
    """Return the event of a resource whose Describe answer is `document`."""
    encode = _iso_text if detail_type == MODEL_PACKAGE else _milliseconds
    detail = _encoded(document, encode)
    if detail_type == ENDPOINT:
        detail["EndpointStatus"] = _SNAKE.sub("_", document["EndpointStatus"]).upper()
    detail["Tags"] = dict(tags)
    return Event(detail_type=detail_type, detail=detail, resources=(arn,))


def _encoded(value: Any, encode: Callable[[datetime], object]) -> Any:
    """Return a copy as JSON has it, without nulls."""
    match value:
        case datetime():
            return encode(value)
        case Mapping():
            found = {key: _encoded(item, encode) for key, item in value.items()}
            return {key: item for key, item in found.items() if item is not None}
        case list() | tuple():
            return [_encoded(item, encode) for item in value]
    return value


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _iso_text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
