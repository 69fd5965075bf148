"""Documents of one kind by name, with AWS's words where one is missing or already there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sagemaker_byoc.region.core.account import Account
from sagemaker_byoc.region.core.records import Records
from sagemaker_byoc.region.core.tags import Tags
from sagemaker_byoc.region.services.sagemaker.refusals import already_exists, could_not_find
from sagemaker_byoc.region.wire.operations import Parameters


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
        """A copy; raises AwsError."""
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
        """Replace a document; on a full disk in memory, and on the disk once it has room."""
        self.records.settle(name, document)

    def remove(self, name: str) -> None:
        """Raises AwsError if there is none, OSError if the disk keeps it."""
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
