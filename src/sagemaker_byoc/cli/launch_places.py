"""What a plan needs to know and only a service or this machine can say: questions, no changes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker_byoc.cli import target
from sagemaker_byoc.cli.launch_callers import AwsCaller, RegionCaller
from sagemaker_byoc.cloud import session
from sagemaker_byoc.contract.variables import ROLE
from sagemaker_byoc.images.build import commit
from sagemaker_byoc.launch import image
from sagemaker_byoc.launch.errors import SettingsError
from sagemaker_byoc.launch.execute import find
from sagemaker_byoc.launch.place import Place, role_arn
from sagemaker_byoc.launch.shared import Shared
from sagemaker_byoc.launch.steps import Call, Caller
from sagemaker_byoc.region.core.account import Account


@dataclass(frozen=True, slots=True)
class Here:
    caller: Caller
    place: Place


def in_region(arguments: argparse.Namespace, shared: Shared) -> Here:
    """The region that runs on this machine."""
    found = target.find(arguments)
    status = found.status()
    account = Account(id=status["account"], region=status["region"])
    return Here(
        RegionCaller(found.url, account.region, found.keys),
        Place(
            region=account.region,
            account=account.id,
            image=shared.image,
            digest=_local_digest(shared, status, account),
            role=role_arn(shared.role or account.role, account.region, account.id),
            commit=_revision(shared),
            bucket=shared.bucket,
            endpoint=found.url,
        ),
    )


def role_of(shared: Shared) -> str:
    """Return the execution role's name or ARN, "" if none is set."""
    return shared.role or os.environ.get(ROLE, "")


def in_aws(shared: Shared) -> Here:
    """AWS, for settings that `launch_checks` found nothing wrong with."""
    cloud = session.Cloud(session.resolve_region(shared.region or None))
    caller = AwsCaller(cloud)
    role = role_of(shared)
    pinned = image.pin(shared, shared.image, caller)
    # Without credentials a plan can still be printed, where nothing in it needs the account.
    needs_account = not (shared.bucket and role.startswith("arn:"))
    account = session.resolve_account(cloud, None) if needs_account else ""
    return Here(
        caller,
        Place(
            region=cloud.region,
            account=account,
            image=pinned.image,
            digest=pinned.digest,
            cuda=pinned.cuda,
            role=role_arn(role, cloud.region, account),
            commit=_revision(shared),
            bucket=shared.bucket,
        ),
    )


def artifact_of(where: str, job: str, caller: Caller) -> tuple[str, str]:
    """The job, and its model's URI: that of the name, or the newest whose name begins with it."""
    described = find(_describe(job), caller)
    if described is None:
        asked = {
            "NameContains": job,
            "StatusEquals": "Completed",
            "SortBy": "CreationTime",
            "SortOrder": "Descending",
            "MaxResults": 100,
        }
        listed = caller.call("sagemaker", "ListTrainingJobs", asked)["TrainingJobSummaries"]
        names = [entry["TrainingJobName"] for entry in listed]
        newest = next((name for name in names if name.startswith(f"{job}-")), None)
        described = find(_describe(newest), caller) if newest else None
    if described is None:
        raise SettingsError(
            f"{where}: model: there is no training job {job!r}, and no completed one {job}-…",
            hint="Launch it first: byoc launch train --wait",
        )
    name, status = described["TrainingJobName"], described["TrainingJobStatus"]
    uri = described.get("ModelArtifacts", {}).get("S3ModelArtifacts", "")
    if status != "Completed" or not uri:
        state = status if status != "Completed" else "Completed without a model"
        raise SettingsError(
            f"{where}: model: training job {name} is {state}", hint="Name a job that made a model"
        )
    return str(name), str(uri)


def _describe(job: str) -> Call:
    return Call("sagemaker", "DescribeTrainingJob", {"TrainingJobName": job})


def _local_digest(shared: Shared, status: Mapping[str, Any], account: Account) -> str:
    """Raises SettingsError if neither the region's registry nor its engine has the image."""
    with target.explained_imports():
        from sagemaker_byoc.region.composition import make_images  # noqa: PLC0415
        from sagemaker_byoc.region.services.ecr.ecr import Registry  # noqa: PLC0415
        from sagemaker_byoc.region.wire.aws_errors import AwsError  # noqa: PLC0415
    state = Path(status["state"])
    pushed = Registry(state=state, account=account, url=status["url"]).pushed
    try:
        return make_images(status["engine"], state, pushed).resolve(shared.image).digest
    except AwsError as error:
        raise SettingsError(
            f"{shared.where}: image: {error.message}",
            hint="Or name an image that the region has: --image",
        ) from error


def _revision(shared: Shared) -> str:
    return commit.read(shared.folder).revision
