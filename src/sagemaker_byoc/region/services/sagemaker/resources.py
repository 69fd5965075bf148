"""Kinds of SageMaker resources: each is declared once, and what all have in common is here.

A kind has documents on disk, one per name, which its Describe operation returns. `Resources` adds,
changes and removes them, lists them in AWS's pages, refuses in AWS's words, keeps their tags and
answers long polls.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from botocore.model import ListShape, StructureShape

from sagemaker_byoc.region.core import paging
from sagemaker_byoc.region.core.polling import Subject
from sagemaker_byoc.region.core.records import now
from sagemaker_byoc.region.services.sagemaker.state_changes import state_change
from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters

if TYPE_CHECKING:
    from sagemaker_byoc.region.services.sagemaker.context import RegionContext

LOG = logging.getLogger(__name__)

PAGE = 100
"""Entries of a page if the caller names no MaxResults, which is also the most it may name."""

Refusal: TypeAlias = "Callable[[Kind, str], AwsError]"
"""Returns the error about the resource with an ARN."""


def invalid(text: str) -> AwsError:
    return AwsError("ValidationException", text)


def not_here(what: str, hint: str) -> AwsError:
    """Refuse a part of SageMaker that this region lacks; it is never ignored."""
    return invalid(f"{what} is not supported by this local region. {hint}.")


def could_not_find(kind: Kind, arn: str) -> AwsError:
    return invalid(f'Could not find {kind.noun} "{arn}".')


def no_such_job(_kind: Kind, _arn: str) -> AwsError:
    """Return SageMaker's error for a missing job; boto3's waiters need its code."""
    return invalid("Requested resource not found.")


def already_exists(kind: Kind, arn: str) -> AwsError:
    """Return the error whose text SDKs look for, to continue with the existing resource."""
    return invalid(f'Cannot create already existing {kind.noun} "{arn}".')


def name_in_use(kind: Kind, arn: str) -> AwsError:
    """Return the error of kinds whose names can't be used twice."""
    return AwsError(
        "ResourceInUse",
        f"{kind.noun.capitalize()} names must be unique within an AWS account and region, and a "
        f"{kind.noun} with this name already exists ({arn})",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of resource, in AWS's words."""

    noun: str
    """In sentences: `training job`."""
    member: str
    """`TrainingJob`, which begins its members and ends its operations: `TrainingJobName`,
    `DescribeTrainingJob`."""
    resource: str
    """In ARNs: `training-job`."""
    folder: str
    """The folder of its documents, and of the files of those that run: `training-jobs`."""
    page: int = PAGE
    """Entries of a page if the request does not say how many."""
    order: str = "Descending"
    """The SortOrder of a list whose request names none."""
    missing: Refusal = could_not_find
    taken: Refusal = already_exists
    subject: Subject | None = None
    """What a client that waits for the resource sees of it; None if nothing is waited for."""
    event: str = ""
    """The detail-type of its events; empty if AWS has none."""

    @property
    def name_member(self) -> str:
        return f"{self.member}Name"

    @property
    def arn_member(self) -> str:
        return f"{self.member}Arn"

    @property
    def status_member(self) -> str:
        return f"{self.member}Status"

    def has_ended(self, document: Parameters) -> bool:
        """Return whether the resource will not change any more by itself."""
        return self.subject is None or self.subject.has_ended(document)


class Resources:
    """The resources of one kind; made by `RegionContext.resources`. Thread-safe."""

    def __init__(self, kind: Kind, context: RegionContext) -> None:
        self.kind = kind
        self.tags = context.tags
        self.records = context.records(kind.folder)
        self._account = context.account
        self._events = context.events
        self._watch = None if kind.subject is None else context.holds.watch(kind.subject)
        self._lock = threading.Lock()

    def operations(self) -> Operations:
        """Return the operations that all kinds have: Describe, List, Delete."""
        member = self.kind.member
        return {
            f"Describe{member}": self.describe,
            f"List{member}s": self.list,
            f"Delete{member}": self.delete,
        }

    def start(self) -> None:
        """Begin to hold answers, on the thread of the event loop."""
        if self._watch is not None:
            self._watch.start()

    def arn(self, name: str) -> str:
        return self._account.arn("sagemaker", f"{self.kind.resource}/{name}")

    def name_in(self, arn: str) -> str | None:
        """Return the name in the ARN of a resource of this kind, None for an ARN of another."""
        start = self.arn("")
        return arn.removeprefix(start) if arn.startswith(start) else None

    # ── documents ──

    def __iter__(self) -> Iterator[Parameters]:
        for name in self.records:
            document = self.records.get(name)
            if document is not None:
                yield document

    def __contains__(self, name: str) -> bool:
        return name in self.records

    def get(self, name: str) -> Parameters:
        """Return a copy of the document. Raise AwsError if there is none."""
        document = self.records.get(name)
        if document is None:
            raise self.kind.missing(self.kind, self.arn(name))
        return document

    def status(self, name: str) -> str:
        return str(self.get(name)[self.kind.status_member])

    def has_ended(self, name: str) -> bool:
        return self.kind.has_ended(self.get(name))

    def new(self, name: str, **members: object) -> Parameters:
        """Return a document that is not added yet, with its name, ARN and time."""
        own = {self.kind.name_member: name, self.kind.arn_member: self.arn(name)}
        return {**own, "CreationTime": now(), **members}

    def refuse_taken(self, name: str) -> None:
        """Raise AwsError if the name is in use."""
        if name in self.records:
            raise self.kind.taken(self.kind, self.arn(name))

    def add(self, name: str, document: Parameters, tags: Sequence[Mapping[str, str]] = ()) -> None:
        """Raise AwsError if the name is in use, or for tags that AWS refuses."""
        with self._lock:
            self.refuse_taken(name)
            self.tags.forget(self.arn(name))  # of a resource whose creation a kill has ended
            self.tags.add(self.arn(name), tags)
            try:
                self.records.add(name, document)
            except OSError:
                self.tags.forget(self.arn(name))
                raise
            self._publish(document)
        self._announce(name)

    def change(self, name: str, edit: Callable[[Parameters], bool | None]) -> bool:
        """Let `edit` change the document in place, with the time of the change.

        Return False, changing nothing, if it returns False. On a full disk the document is kept
        in memory until there is room. Raise AwsError if there is none.
        """
        with self._lock:
            document = self.get(name)
            before = self.state(document)
            if edit(document) is False:
                return False
            document["LastModifiedTime"] = now()
            self.records.settle(name, document)
            after = self.state(document)
            if after != before:
                changed = [name for name in after if after[name] != before[name]]
                self._publish(document, changed)
        self._announce(name)
        return True

    def remove(self, name: str) -> None:
        """Raise AwsError if there is none, OSError if it can't be removed from the disk."""
        with self._lock:
            document = self.get(name)
            self.records.remove(name)
            if not any(self.state(document).values()):
                self._publish(document)  # the end of what has no status
            self.tags.forget(self.arn(name))
        self._announce(name)

    def state(self, document: Parameters) -> dict[str, object]:
        """Return the members whose change is an event."""
        return {name: document.get(name) for name in (self.kind.status_member, "SecondaryStatus")}

    def only_in_event(self, _changed: Sequence[str]) -> dict[str, object]:
        """Return the members that an event has and the Describe answer lacks."""
        return {}

    def _publish(self, document: Parameters, changed: Sequence[str] = ()) -> None:
        """Publish the state of a document as an event, if AWS does, with the `changed` members.

        Never raise: a resource does not depend on its events.
        """
        if not self.kind.event:
            return
        try:
            arn = document[self.kind.arn_member]
            detail = {**self.described(document), **self.only_in_event(changed)}
            event = state_change(self.kind.event, arn, detail, self.tags.get(arn))
            self._events.publish(event)
        except Exception:
            LOG.exception("the event of a %s is lost", self.kind.noun)

    def expect(self, name: str) -> None:
        """Note that the client of this request asked for a change, and may wait for its end."""
        if self._watch is not None:
            self._watch.expect(name)

    def _announce(self, name: str) -> None:
        if self._watch is not None:
            self._watch.announce(name)

    # ── operations ──

    def name_of(self, document: Parameters) -> str:
        """Return the name that NameContains means."""
        return str(document[self.kind.name_member])

    def place_of(self, document: Parameters) -> str:
        """Return the text that sorts documents by name; no two have the same."""
        return self.name_of(document)

    async def see(self, name: str) -> Parameters:
        """Return the document: for a client that waits for a change, when there is one."""
        if self._watch is None:
            return self.get(name)
        return await self._watch.see(name, lambda: self.get(name))

    def described(self, document: Parameters) -> Parameters:
        """Return what Describe answers of a document, which Search and events show, too."""
        return {name: document[name] for name in _answered(self.kind.member) if name in document}

    async def describe(self, asked: Parameters) -> Parameters:
        return self.described(await self.see(asked[self.kind.name_member]))

    def list(self, asked: Parameters) -> Parameters:
        return self.page(self, asked)

    def delete(self, asked: Parameters) -> Parameters:
        self.remove(asked[self.kind.name_member])
        return {}

    def page(self, documents: Iterable[Parameters], asked: Parameters) -> Parameters:
        """Return the answer of a List operation: {items: [{member: …}, …], "NextToken"?}.

        A document that is made or removed between two pages does not shift the next one.
        """
        kind = self.kind
        found = [
            document
            for document in documents
            if asked.get("NameContains", "").lower() in self.name_of(document).lower()
            and _matches(document, kind, asked)
        ]
        asked_key: str = asked.get("SortBy", "CreationTime")
        keys = {"Name": "", "Status": kind.status_member}  # by name: by the place alone
        key = keys.get(asked_key, asked_key)

        def place(document: Parameters) -> tuple[str, str]:
            return _text(document.get(key, "")), self.place_of(document)

        try:
            part, token = paging.page(
                found,
                place,
                size=asked.get("MaxResults", kind.page),
                token=asked.get("NextToken"),
                descending=asked.get("SortOrder", kind.order) == "Descending",
            )
        except paging.TokenError as error:
            raise invalid("Invalid pagination token: give the NextToken of an answer") from error
        items, members = _listed(kind.member)
        entries = [{name: each[name] for name in members if name in each} for each in part]
        return {items: entries, **({"NextToken": token} if token else {})}


@lru_cache
def _answered(member: str) -> tuple[str, ...]:
    """Return the members of the answer of Describe, from AWS's model."""
    shape = models.service_model("sagemaker").operation_model(f"Describe{member}").output_shape
    assert isinstance(shape, StructureShape)
    return tuple(shape.members)


def echoed(request: Parameters, description: str) -> Parameters:
    """Return the members of a Create request that the shape `description` repeats unchanged."""
    members = models.service_model("sagemaker").shape_for(description).members
    return {name: value for name, value in request.items() if name in members}


@lru_cache
def _listed(member: str) -> tuple[str, tuple[str, ...]]:
    """Return, from AWS's model, the member with the entries of a List answer, and their members."""
    shape = models.service_model("sagemaker").operation_model(f"List{member}s").output_shape
    assert isinstance(shape, StructureShape)
    for name, each in shape.members.items():
        if isinstance(each, ListShape) and isinstance(each.member, StructureShape):
            return name, tuple(each.member.members)
    raise ValueError(f"List{member}s lists nothing")


def _matches(document: Parameters, kind: Kind, asked: Parameters) -> bool:
    if "StatusEquals" in asked and document.get(kind.status_member) != asked["StatusEquals"]:
        return False
    for time in ("CreationTime", "LastModifiedTime"):
        value = document.get(time)
        if f"{time}After" in asked and (value is None or value < asked[f"{time}After"]):
            return False
        if f"{time}Before" in asked and (value is None or value > asked[f"{time}Before"]):
            return False
    return True


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
