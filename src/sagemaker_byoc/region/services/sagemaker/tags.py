"""Tags of SageMaker's resources, by ARN."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from sagemaker_byoc.contract.files import Json, write_json
from sagemaker_byoc.region.core import tags
from sagemaker_byoc.region.wire.operations import AwsError, Operations, Parameters


class Tags:
    """Tags in STATE/sagemaker/tags, one file per ARN. Objects of one folder see the same."""

    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, state: Path, check: Callable[[str], None] = lambda _arn: None) -> None:
        """`check` raises AwsError if no resource has the ARN of a request."""
        self._folder = state / "sagemaker" / "tags"
        self._check = check

    def operations(self) -> Operations:
        return {"AddTags": self._add, "ListTags": self._list, "DeleteTags": self._delete}

    def get(self, arn: str) -> dict[str, str]:
        try:
            entries = json.loads(self._file(arn).read_bytes())["Tags"]
        except FileNotFoundError:
            return {}
        return {entry["Key"]: entry["Value"] for entry in entries}

    def add(self, arn: str, new: Sequence[Mapping[str, str]]) -> dict[str, str]:
        """Return all tags of `arn` afterwards.

        Raise AwsError above 50 tags, for a key that is given twice, and for a key of AWS's.
        """
        if len({tag["Key"] for tag in new}) < len(new):
            raise AwsError("ValidationException", "Duplicate tag keys found in the request.")
        with self._lock:
            try:
                merged = tags.merged(self.get(arn), new)
            except tags.ReservedTagError as error:
                raise AwsError("ValidationException", str(error)) from error
            except tags.TooManyTagsError as error:
                raise AwsError("ResourceLimitExceeded", f"{arn} would have {error}.") from error
            self._put(arn, merged)
        return merged

    def remove(self, arn: str, keys: Iterable[str]) -> None:
        with self._lock:
            self._put(arn, tags.without(self.get(arn), keys))

    def forget(self, arn: str) -> None:
        """Remove the tags of a resource that is deleted."""
        with self._lock:
            self._file(arn).unlink(missing_ok=True)

    def _put(self, arn: str, kept: Mapping[str, str]) -> None:
        if kept:
            entries: list[Json] = [{**entry} for entry in tags.as_list(kept)]
            write_json(self._file(arn), {"ResourceArn": arn, "Tags": entries})
        else:
            self._file(arn).unlink(missing_ok=True)

    def _file(self, arn: str) -> Path:
        return self._folder / f"{hashlib.sha256(arn.encode()).hexdigest()[:32]}.json"

    async def _add(self, parameters: Parameters) -> Parameters:
        self._check(parameters["ResourceArn"])
        return {"Tags": tags.as_list(self.add(parameters["ResourceArn"], parameters["Tags"]))}

    async def _list(self, parameters: Parameters) -> Parameters:
        return {"Tags": tags.as_list(self.get(parameters["ResourceArn"]))}

    async def _delete(self, parameters: Parameters) -> Parameters:
        self._check(parameters["ResourceArn"])
        self.remove(parameters["ResourceArn"], parameters["TagKeys"])
        return {}
