"""Resources of one kind by name: tags, the List operation, AWS's words for refused requests."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from sagemaker_byoc.contract.facts import is_reserved_tag
from sagemaker_byoc.contract.files import Json, write_json
from sagemaker_byoc.region.core import paging
from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.records import Records
from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters

MODEL = "model"
CONFIG = "endpoint configuration"
ENDPOINT = "endpoint"
PAGE = 100
"""Entries of a page if the caller names no MaxResults, which is also the most it may name."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """`words` are AWS's for the kind, `resource` is the ARN's."""

    words: str
    resource: str
    account: Account
    records: Records
    tags: Tags

    def arn(self, name: str) -> str:
        return self.account.arn("sagemaker", f"{self.resource}/{name}")

    def get(self, name: str) -> Parameters:
        """Return a copy of the document. Raise AwsError if there is none."""
        document = self.records.get(name)
        if document is None:
            raise could_not_find(self.words, self.arn(name))
        return document

    def add(self, name: str, document: Parameters, tags: Sequence[Mapping[str, str]] = ()) -> None:
        if name in self.records:
            raise already_exists(self.words, self.arn(name))
        if tags:
            self.tags.add(self.arn(name), tags)
        try:
            self.records.add(name, document)
        except OSError:
            self.tags.forget(self.arn(name))
            raise

    def put(self, name: str, document: Parameters) -> None:
        """Replace a document. On a full disk it is kept in memory until there is room."""
        self.records.settle(name, document)

    def remove(self, name: str) -> None:
        """Raise AwsError if there is none, OSError if it can't be removed from the disk."""
        if name not in self.records:
            raise could_not_find(self.words, self.arn(name))
        self.tags.forget(self.arn(name))
        self.records.remove(name)

    def __iter__(self) -> Iterator[Parameters]:
        for name in self.records:
            document = self.records.get(name)
            if document is not None:
                yield document

    def __contains__(self, name: str) -> bool:
        return name in self.records


def invalid(text: str) -> AwsError:
    return AwsError("ValidationException", text)


def not_here(what: str, hint: str) -> AwsError:
    """Refuse a part of SageMaker that this region lacks; it is never ignored."""
    return invalid(f"{what} is not supported by this local region. {hint}.")


def could_not_find(kind: str, arn: str) -> AwsError:
    return invalid(f'Could not find {kind} "{arn}".')


def already_exists(kind: str, arn: str) -> AwsError:
    """Return the error whose text SDKs look for, to continue with the existing resource."""
    return invalid(f'Cannot create already existing {kind} "{arn}".')


def in_progress(arn: str) -> AwsError:
    return invalid(f'Cannot update in-progress endpoint "{arn}".')


def echoed(request: Parameters, description: str) -> Parameters:
    """Return the members of a Create request that the shape `description` repeats unchanged."""
    members = models.service_model("sagemaker").shape_for(description).members
    return {name: value for name, value in request.items() if name in members}


def list_page(  # noqa: PLR0913 - each differs between the List operations
    documents: Iterable[Parameters],
    asked: Parameters,
    *,
    items: str,
    members: Sequence[str],
    name: str,
    status: str = "",
    size: int = PAGE,
    order: str = "Descending",
) -> Parameters:
    """Return the answer of a List operation: {items: [{member: …}, …], "NextToken"?}.

    `name` and `status` are the members that the filters and SortBy mean. A document that is made
    or removed between two pages does not shift the next one.
    """
    found = [document for document in documents if _matches(document, name, status, asked)]
    keys = {"Name": name, "Status": status}
    key = keys.get(asked.get("SortBy", "CreationTime"), "CreationTime")
    backwards = asked.get("SortOrder", order) == "Descending"

    def place(document: Parameters) -> tuple[str, str]:
        return _text(document.get(key, "")), str(document[name])

    try:
        page, token = paging.page(
            found,
            place,
            size=asked.get("MaxResults", size),
            token=asked.get("NextToken"),
            descending=backwards,
        )
    except paging.TokenError as error:
        raise invalid("Invalid pagination token: give the NextToken of an answer") from error
    entries = [{member: each[member] for member in members if member in each} for each in page]
    return {items: entries, "NextToken": token} if token else {items: entries}


def _matches(document: Parameters, name: str, status: str, asked: Parameters) -> bool:
    if asked.get("NameContains", "").lower() not in str(document[name]).lower():
        return False
    if "StatusEquals" in asked and document.get(status) != asked["StatusEquals"]:
        return False
    for time in ("CreationTime", "LastModifiedTime"):
        value = document.get(time)
        if f"{time}After" in asked and value < asked[f"{time}After"]:
            return False
        if f"{time}Before" in asked and value > asked[f"{time}Before"]:
            return False
    return True


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


MOST = 50
"""Most tags of one resource (service model: sagemaker.TagList.max)."""


class Tags:
    """Tags in STATE/sagemaker/tags, one file per ARN. Objects of one folder see the same."""

    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, state: Path) -> None:
        self._folder = state / "sagemaker" / "tags"

    def operations(self) -> Operations:
        return {"AddTags": self._add, "ListTags": self._list, "DeleteTags": self._delete}

    def get(self, arn: str) -> dict[str, str]:
        try:
            entries = json.loads(self._file(arn).read_bytes())["Tags"]
        except FileNotFoundError:
            return {}
        return {entry["Key"]: entry["Value"] for entry in entries}

    def add(self, arn: str, tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
        """Return all tags of `arn` afterwards.

        Raise AwsError above 50 tags, for a key that is given twice, and for a key of AWS's.
        """
        new = {tag["Key"]: tag["Value"] for tag in tags}
        if len(new) < len(tags):
            raise AwsError("ValidationException", "Duplicate tag keys found in the request.")
        for key in new:
            if is_reserved_tag(key):
                raise AwsError(
                    "ValidationException", f"Tag key {key!r} begins with aws:, which is AWS's"
                )
        with self._lock:
            merged = self.get(arn) | new
            if len(merged) > MOST:
                raise AwsError(
                    "ResourceLimitExceeded",
                    f"{arn} would have {len(merged)} tags; a resource can have {MOST}.",
                )
            self._put(arn, merged)
        return merged

    def remove(self, arn: str, keys: Iterable[str]) -> None:
        with self._lock:
            gone = set(keys)
            kept = {key: value for key, value in self.get(arn).items() if key not in gone}
            self._put(arn, kept)

    def forget(self, arn: str) -> None:
        """Remove the tags of a resource that is deleted."""
        with self._lock:
            self._file(arn).unlink(missing_ok=True)

    def _put(self, arn: str, tags: Mapping[str, str]) -> None:
        if tags:
            entries: list[Json] = [{**entry} for entry in as_list(tags)]
            write_json(self._file(arn), {"ResourceArn": arn, "Tags": entries})
        else:
            self._file(arn).unlink(missing_ok=True)

    def _file(self, arn: str) -> Path:
        return self._folder / f"{hashlib.sha256(arn.encode()).hexdigest()[:32]}.json"

    async def _add(self, parameters: Parameters) -> Parameters:
        return {"Tags": as_list(self.add(parameters["ResourceArn"], parameters["Tags"]))}

    async def _list(self, parameters: Parameters) -> Parameters:
        return {"Tags": as_list(self.get(parameters["ResourceArn"]))}

    async def _delete(self, parameters: Parameters) -> Parameters:
        self.remove(parameters["ResourceArn"], parameters["TagKeys"])
        return {}


def as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the tags as the API writes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
