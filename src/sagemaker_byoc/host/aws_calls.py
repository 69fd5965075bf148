"""A call of an AWS service as data, the protocol of what makes calls, and the refusal of one."""

from __future__ import annotations

import json
import logging
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sagemaker_byoc.contract.errors import ByocError, MachineError

LOG = logging.getLogger(__name__)
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Call:
    """`operation` as the service model names it: CreateRepository of ecr."""

    service: str
    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The name of boto3's method: create_repository."""
        return _words(self.operation, "_")

    def command(self, region: str) -> str:
        """Return the command of the AWS CLI that does the same."""
        words = ["aws", self.service, _words(self.operation, "-"), "--region", region]
        for name, value in self.parameters.items():
            words.append(f"--{_words(name, '-')}")
            words += _values(value)
        return shlex.join(words)


class Caller(Protocol):
    """What makes calls: AWS, or a region on this machine."""

    @property
    def region(self) -> str: ...

    def call(self, call: Call, /) -> dict[str, Any]:
        """Return the answer. Raise RefusedError if the service refuses the call."""


class RefusedError(ByocError):
    """A service refused a call; `code` is that of the error in the service model."""

    def __init__(self, code: str, what: str, *, hint: str) -> None:
        self.code = code
        super().__init__(what, hint=hint)


def note(call: Call, region: str) -> None:
    """Log a call for `byoc -v`."""
    LOG.debug("asked: %s %s in %s", call.service, call.operation, region)


def not_aws(call: Call, what: str) -> MachineError:
    """Return the error for an answer that no AWS service gives."""
    return MachineError(
        f"the answer to {call.service} {call.operation} {what}",
        hint="Check AWS_ENDPOINT_URL and HTTPS_PROXY: what answers there is not AWS",
    )


def only(call: Call, answer: Mapping[str, Any], key: str) -> Any:
    """Return the only entry of the list `key`. Raise MachineError if there is not exactly one."""
    entries = answer[key]
    if not isinstance(entries, list) or len(entries) != 1:
        raise not_aws(call, f"does not have exactly one entry of {key}")
    return entries[0]


def _words(name: str, joint: str) -> str:
    return _WORD.sub(joint, name).lower()


def _values(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return value
    return [json.dumps(value, separators=(",", ":"))]
