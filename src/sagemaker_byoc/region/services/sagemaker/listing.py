"""The List operations: filters, order and pages, the same for each kind of resource."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from datetime import datetime

from sagemaker_byoc.region.services.sagemaker.refusals import invalid
from sagemaker_byoc.region.wire.operations import Parameters

PAGE = 100
"""Entries of a page where the caller names no MaxResults, which is also the most it may name."""


def page(documents: Iterable[Parameters], name: str, status: str, asked: Parameters) -> Parameters:
    """{"Items": […], "NextToken"?}: `name` and `status` are the documents' keys of these."""
    found = [document for document in documents if _matches(document, name, status, asked)]
    keys = {"Name": name, "Status": status}
    key = keys.get(asked.get("SortBy", "CreationTime"), "CreationTime")
    backwards = asked.get("SortOrder", "Descending") == "Descending"

    def place(document: Parameters) -> tuple[str, str]:
        return _text(document.get(key, "")), str(document[name])

    found.sort(key=place, reverse=backwards)
    if "NextToken" in asked:
        last = _read_token(asked["NextToken"])
        found = [
            each for each in found if (place(each) < last if backwards else place(each) > last)
        ]
    size = asked.get("MaxResults", PAGE)
    if len(found) <= size:
        return {"Items": found}
    return {"Items": found[:size], "NextToken": _token(place(found[size - 1]))}


def summaries(found: Parameters, items: str, keys: Sequence[str]) -> Parameters:
    """A page under the operation's own key, each entry with the `keys` that it has."""
    entries = [{key: each[key] for key in keys if key in each} for each in found.pop("Items")]
    return {items: entries, **found}


def _matches(document: Parameters, name: str, status: str, asked: Parameters) -> bool:
    if asked.get("NameContains", "").lower() not in str(document[name]).lower():
        return False
    if "StatusEquals" in asked and document.get(status) != asked["StatusEquals"]:
        return False
    for time in ("CreationTime", "LastModifiedTime"):
        value = document.get(time)
        if f"{time}After" in asked and not value > asked[f"{time}After"]:
            return False
        if f"{time}Before" in asked and not value < asked[f"{time}Before"]:
            return False
    return True


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _token(place: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _read_token(token: str) -> tuple[str, str]:
    try:
        first, second = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError, TypeError) as error:
        raise invalid("Invalid pagination token: give the NextToken of an answer") from error
    return str(first), str(second)
