"""Keys of both tables: name, image, role, instances, environment, tags, network, raw members."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.variables import ROLE
from sagemaker_byoc.launch.inputs import legal_name
from sagemaker_byoc.launch.table import SettingsError, Table, merged

SHARED_KEYS: Mapping[str, str] = {
    "name": "name of the endpoint; a job's name begins with it (default: the folder's)",
    "image": "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME@sha256:…, as `byoc push` prints it",
    "role": "ARN or name of the execution role (default: $SAGEMAKER_ROLE)",
    "region": "region of AWS (default: $AWS_REGION, or the profile's)",
    "bucket": "for inputs and artifacts (default: sagemaker-REGION-ACCOUNT, created if missing)",
    "instance-type": "such as ml.m5.large",
    "instance-count": "hosts, or containers (default: 1)",
    "environment": "NAME = VALUE",
    "tags": "NAME = VALUE",
    "subnets": "subnets of a VPC, with security-groups",
    "security-groups": "security groups of a VPC, with subnets",
    "request": "members as the API has them, by operation: docs/how-to/launch.md",
    "kubernetes": "for --kubernetes: docs/how-to/kubernetes.md",
}
_WHERE_TO_SET = {
    "image": 'Write image = "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME@sha256:…", or give --image; '
    "`byoc push` prints it",
    "role": 'Write role = "ARN or NAME" of the execution role, give --set role=NAME, '
    f"or set {ROLE}",
    "region": 'Write region = "eu-west-1", give --set region=eu-west-1, or set AWS_REGION',
    "instance-type": 'Write instance-type = "ml.m5.large", or give --set instance-type=ml.m5.large',
}
_OURS = {
    "Tags": "tags = {NAME = VALUE}",
    **dict.fromkeys(
        ("TrainingJobName", "ModelName", "EndpointConfigName", "EndpointName"), 'name = "NAME"'
    ),
}
"""Members of the API that are made from the table's own keys alone."""
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    where: str
    folder: Path
    """Paths are relative to it."""
    name: str
    image: str
    role: str
    region: str
    bucket: str
    instance_type: str
    """Empty for a serverless endpoint."""
    instance_count: int
    is_counted: bool
    """Whether the settings name the count, which is 1 by default."""
    environment: Mapping[str, str]
    tags: Mapping[str, str]
    subnets: tuple[str, ...]
    security_groups: tuple[str, ...]
    request: Mapping[str, Any]
    kubernetes: Mapping[str, Any]


def read_shared(
    where: str,
    table: Table,
    folder: Path,
    operations: Collection[str],
    *,
    instances: bool = True,
) -> Shared:
    """`operations` are those that `request` may have members for."""
    request = table.inner("request", table.table("request"), operations)
    if ("subnets" in table) != ("security-groups" in table):
        missing = "subnets" if "security-groups" in table else "security-groups"
        table.wrong(missing, "A VPC takes both: subnets and security-groups")
    for key in () if instances else ("instance-type", "instance-count"):
        if key in table:
            table.wrong(key, "A serverless endpoint has no instances: leave it out")
    for operation in operations:
        for member in _OURS.keys() & request.table(operation).keys():
            shown = f"request.{operation}.{member}"
            table.refuse(shown, "is made from another key", f"Write {_OURS[member]} instead")
    return Shared(
        where=where,
        folder=folder,
        name=table.text("name") or legal_name(folder.resolve().name),
        image=table.text("image"),
        role=table.text("role"),
        region=table.text("region"),
        bucket=table.text("bucket"),
        instance_type=table.text("instance-type"),
        instance_count=table.number("instance-count", 1),
        is_counted="instance-count" in table,
        environment=table.pairs("environment"),
        tags=table.pairs("tags"),
        subnets=table.texts("subnets"),
        security_groups=table.texts("security-groups"),
        request={name: request.table(name) for name in operations},
        kubernetes=table.table("kubernetes"),
    )


def role_of(shared: Shared) -> str:
    """Return the execution role's name or ARN, "" if none is set."""
    return shared.role or os.environ.get(ROLE, "")


def require_instance_type(shared: Shared) -> None:
    """Raise SettingsError if it is missing: it is what is paid for, so it has no default."""
    if not shared.instance_type:
        raise missing(shared.where, "instance-type")


def instance_types(shared: Shared) -> list[str]:
    """Return the types that have to run the image, also raw ones; an empty one is serverless."""
    request = shared.request
    resources = request.get("CreateTrainingJob", {}).get("ResourceConfig", {})
    variants = request.get("CreateEndpointConfig", {}).get("ProductionVariants")
    hosts = resources.get("InstanceGroups") or variants or [resources]
    return [str(each.get("InstanceType", shared.instance_type)) for each in hosts]


def missing(where: str, key: str) -> SettingsError:
    """Return the error for a key without which nothing can be launched."""
    return SettingsError(f"{where}: {key} is missing", hint=_WHERE_TO_SET[key])


def merged_request(made: Mapping[str, Any], shared: Shared, operation: str) -> dict[str, Any]:
    """Return `made` with the members that the user gave for `operation`, which win."""
    return merged(made, shared.request.get(operation) or {})


def vpc(shared: Shared) -> dict[str, Any]:
    return {"Subnets": [*shared.subnets], "SecurityGroupIds": [*shared.security_groups]}


def words(seconds: int) -> str:
    """Return a duration in words: 90000 s is 1 d 1 h."""
    parts = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 s"
