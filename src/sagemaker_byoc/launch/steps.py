"""A plan: the calls of a launch in their order, as data, and the place that they are made for.

Nothing here makes a call. The place is known before the plan is made, so that the plan is pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from sagemaker_byoc.contract.masking import MASK, SHORTEST, masked, secret_texts
from sagemaker_byoc.host.aws_calls import Call

Parameters: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`call`, unless `look` finds what it would make: then `instead`, or nothing."""

    makes: str
    """A noun, such as "model digits-0a1b"."""
    call: Call
    look: Call | None = None
    same: Parameters = field(default_factory=dict)
    """Members by which what `look` finds is as wanted."""
    instead: Call | None = None
    dead: Mapping[str, str] = field(default_factory=dict)
    """Statuses of what `look` finds that make it useless, with the hint for each."""
    undo: str = ""
    """A command."""

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {"makes": self.makes, "call": _document(self.call)}
        if self.look is not None:
            found["unless_found_by"] = _document(self.look)
            found["then"] = "keep it" if self.instead is None else _document(self.instead)
        return found | {"undo": self.undo}


@dataclass(frozen=True, slots=True)
class File:
    """`path` becomes the object `key`; a folder is packed as a model archive first."""

    path: Path
    key: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Files for a prefix named after their content: if it exists, it holds the same."""

    source: Path
    bucket: str
    prefix: str
    files: tuple[File, ...]
    undo: str = ""
    """A command."""

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def makes(self) -> str:
        return f"{self.uri} from {self.source}"

    def document(self) -> dict[str, Any]:
        """Return one entry for all files, of which there may be very many."""
        return {
            "makes": self.makes,
            "upload": {
                "from": str(self.source),
                "to": self.uri,
                "files": len(self.files),
                "bytes": sum(file.size for file in self.files),
            },
            "unless_found_by": "the same names and sizes there",
            "undo": self.undo,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`kind` is train or endpoint; `name` is that of the job or the endpoint."""

    kind: str
    name: str
    region: str
    steps: tuple[Step | Upload, ...]
    cost: str
    """What will run and for how long, in words."""
    notes: tuple[str, ...] = ()
    """What was chosen on the user's behalf, and why."""

    def document(self) -> dict[str, Any]:
        """Return the plan for people and programs, without secrets."""
        return {
            "kind": self.kind,
            "name": self.name,
            "region": self.region,
            "runs": self.cost,
            **({"notes": [*self.notes]} if self.notes else {}),
            "steps": [step.document() for step in self.steps],
        }

    def calls(self) -> list[Call]:
        """Return every call that may be made."""
        steps = [step for step in self.steps if isinstance(step, Step)]
        return [
            call
            for step in steps
            for call in (step.call, step.look, step.instead)
            if call is not None
        ]

    def masker(self) -> Callable[[str], str]:
        """Return what masks this plan's secrets in a text: a service may repeat what it refuses."""
        found = {pair for call in self.calls() for pair in secret_texts(call.parameters)}
        secrets = sorted(found, key=lambda pair: -len(pair[1]))

        def mask(text: str) -> str:
            for name, value in secrets:
                if len(value) >= SHORTEST:
                    text = text.replace(value, MASK)
                    text = text.replace(json.dumps(value)[1:-1], MASK)
                beside = re.escape(name) + r"[\"']?\s*[=:]\s*[\"']?"
                text = re.sub(f"({beside}){re.escape(value)}", rf"\g<1>{MASK}", text)
            return text

        return mask


def _document(call: Call) -> dict[str, Any]:
    return {
        "service": call.service,
        "operation": call.operation,
        "parameters": masked(call.parameters),
    }


_FIRST_REGION = "us-east-1"
TAG_PREFIX = "byoc:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    region: str
    account: str
    image: str
    """As SageMaker gets it: pinned by its digest if it is in a registry."""
    digest: str
    """`sha256:…` of the image; empty if it is unknown."""
    role: str
    """Its ARN."""
    commit: str
    """Commit of the code; empty without a repository."""
    bucket: str = ""
    """The bucket that the user chose, which is not created."""
    cuda: str | None = ""
    """The CUDA version of the image; empty if it states none, None if it can't be read."""
    endpoint: str = ""
    """The URL of a region that is not AWS's."""

    def aws(self, command: str) -> str:
        """Return a command for this place, whatever the shell's variables are."""
        start = f"aws --endpoint-url {self.endpoint}" if self.endpoint else "aws"
        return f"{start} --region {self.region} {command}"

    @property
    def data_bucket(self) -> str:
        """The chosen bucket, or the default as the SageMaker SDK names it."""
        return self.bucket or f"sagemaker-{self.region}-{self.account}"

    def bucket_steps(self) -> tuple[Step, ...]:
        """Return the step that creates the default bucket, which must be this account's."""
        if self.bucket:
            return ()
        name = self.data_bucket
        parameters: dict[str, object] = {"Bucket": name}
        if self.region != _FIRST_REGION:  # S3 rejects it as a constraint
            parameters["CreateBucketConfiguration"] = {"LocationConstraint": self.region}
        owner = {"Bucket": name, "ExpectedBucketOwner": self.account}
        step = Step(
            makes=f"bucket {name}",
            call=Call("s3", "CreateBucket", parameters),
            look=Call("s3", "HeadBucket", owner),
            undo=self.aws(f"s3 rb s3://{name}"),
        )
        return (step,)

    def tags(self, config: str, own: dict[str, str]) -> list[dict[str, str]]:
        """Return the user's tags, and those that name what this was made from."""
        made = {"image-digest": self.digest, "commit": self.commit, "config": config}
        found = {f"{TAG_PREFIX}{name}": value for name, value in made.items() if value} | own
        return [{"Key": key, "Value": value} for key, value in found.items()]


def role_arn(role: str, region: str, account: str) -> str:
    """Return the role's ARN; `role` may be an ARN, or the name of a role of the account."""
    if role.startswith("arn:"):
        return role
    partition = "aws"
    if region.startswith(("cn-", "us-gov-")):
        partition = f"aws-{region.rpartition('-')[0].rpartition('-')[0]}"
    return f"arn:{partition}:iam::{account}:role/{role}"
