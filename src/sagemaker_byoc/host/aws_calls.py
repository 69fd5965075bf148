"""One call of an AWS service as data: it can be printed, and made."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Call:
    """`operation` as the service model names it: CreateRepository of ecr."""

    service: str
    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """boto3's name of it: create_repository."""
        return _words(self.operation, "_")

    def command(self, region: str) -> str:
        """The AWS CLI's line that does the same."""
        words = ["aws", self.service, _words(self.operation, "-"), "--region", region]
        for name, value in self.parameters.items():
            words.append(f"--{_words(name, '-')}")
            words += _values(value)
        return shlex.join(words)


def _words(name: str, joint: str) -> str:
    return _WORD.sub(joint, name).lower()


def _values(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return value
    return [json.dumps(value, separators=(",", ":"))]
