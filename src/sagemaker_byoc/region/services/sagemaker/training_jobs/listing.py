"""ListTrainingJobs: filters, order, pages."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from sagemaker_byoc.region.services.sagemaker.training_jobs.record import Document
from sagemaker_byoc.region.wire.aws_errors import AwsError

PAGE = 10
"""Jobs of a page where the request does not say how many."""

_SUMMARY = (
    "TrainingJobName",
    "TrainingJobArn",
    "CreationTime",
    "TrainingEndTime",
    "LastModifiedTime",
    "TrainingJobStatus",
    "SecondaryStatus",
)
_SORTED_BY = {
    "Name": "TrainingJobName",
    "CreationTime": "CreationTime",
    "Status": "TrainingJobStatus",
}
_TIMES: Mapping[str, tuple[str, Callable[[datetime, datetime], bool]]] = {
    "CreationTimeAfter": ("CreationTime", datetime.__ge__),
    "CreationTimeBefore": ("CreationTime", datetime.__le__),
    "LastModifiedTimeAfter": ("LastModifiedTime", datetime.__ge__),
    "LastModifiedTimeBefore": ("LastModifiedTime", datetime.__le__),
}

Place = tuple[str, str]
"""Where a job stands in the order: what it is sorted by, as text, and its name."""


def list_jobs(documents: Iterable[Document], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """One page. A job that is made or removed meanwhile does not shift the next one."""
    member = _SORTED_BY[parameters.get("SortBy", "CreationTime")]
    descending = parameters.get("SortOrder", "Ascending") == "Descending"

    def place(document: Document) -> Place:
        value = document[member]
        text = value.isoformat() if isinstance(value, datetime) else value
        return (text, document["TrainingJobName"])

    found = sorted(
        (document for document in documents if _matches(document, parameters)),
        key=place,
        reverse=descending,
    )
    token = parameters.get("NextToken")
    if token:
        last = _decode(token)
        found = [d for d in found if (place(d) < last if descending else place(d) > last)]
    size = parameters.get("MaxResults", PAGE)
    page = found[:size]
    summaries = [{key: job[key] for key in _SUMMARY if key in job} for job in page]
    more = {"NextToken": _encode(place(page[-1]))} if len(found) > size else {}
    return {"TrainingJobSummaries": summaries, **more}


def _matches(document: Document, parameters: Mapping[str, Any]) -> bool:
    if parameters.get("NameContains", "").lower() not in document["TrainingJobName"].lower():
        return False
    if parameters.get("StatusEquals") not in {None, document["TrainingJobStatus"]}:
        return False
    if parameters.get("WarmPoolStatusEquals") or parameters.get("TrainingPlanArnEquals"):
        return False  # no job of this region has one
    return all(
        compare(document[member], parameters[name])
        for name, (member, compare) in _TIMES.items()
        if name in parameters
    )


def _encode(place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _decode(token: str) -> Place:
    try:
        first, second = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, TypeError, binascii.Error) as error:
        raise AwsError("ValidationException", "NextToken is not one of this region's") from error
    return (str(first), str(second))
