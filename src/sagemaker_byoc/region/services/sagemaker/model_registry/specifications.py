"""Inference specifications of model packages: their rules, and the containers they stand for."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sagemaker_byoc.region.services.s3.store.objects import S3Error, parse_s3_uri
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.resources import invalid
from sagemaker_byoc.region.wire import models
from sagemaker_byoc.region.wire.operations import AwsError, Parameters

APPROVED = "Approved"
RESOLVED = "Resolved"
"""Member of a model's document alone: its containers, with what the packages had that they name."""
MOST_ADDITIONAL = 15
"""Source: service model, UpdateModelPackage.AdditionalInferenceSpecificationsToAdd."""
_OF_UNVERSIONED = (
    "SupportedTransformInstanceTypes",
    "SupportedRealtimeInferenceInstanceTypes",
)
"""Members of the specification that only unversioned packages need (service model)."""


def check_unversioned(specification: Parameters) -> None:
    """Raise AwsError for what a package without a group can't have."""
    for container in specification["Containers"]:
        if container.get("Environment"):
            raise invalid(
                "Environment variable map cannot be specified when using non-versioned "
                "ModelPackages"
            )
        if "ModelDataSource" in container:
            raise invalid(
                "ModelDataSource is not supported for unversioned model packages. Give "
                "ModelDataUrl, or register the package in a ModelPackageGroupName"
            )
    for member in _OF_UNVERSIONED:
        if not specification.get(member):
            raise invalid(f"{member} is required for unversioned model packages")


def check_additional(specifications: list[Parameters]) -> None:
    """Raise AwsError for too many additional specifications, or two of one name."""
    if len(specifications) > MOST_ADDITIONAL:
        raise invalid(
            f"A model package has at most {MOST_ADDITIONAL} additional inference specifications, "
            f"not {len(specifications)}"
        )
    names = [each["Name"] for each in specifications]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise invalid(f"There is more than one inference specification named {repeated[0]}")


def with_digests(specification: Parameters, context: RegionContext) -> Parameters:
    """Return the specification with the digest of each image and the ETag of its data, if known.

    A package may name what this region lacks: `CreateModel` looks for it.
    """
    return {
        **specification,
        "Containers": [_known(each, context) for each in specification["Containers"]],
    }


def _known(container: Parameters, context: RegionContext) -> Parameters:
    found: Parameters = {}
    if "Image" in container:
        with suppress(AwsError):
            found["ImageDigest"] = context.images.resolve(container["Image"]).digest
    if "ModelDataUrl" in container:
        with suppress(S3Error, AwsError):
            data = context.store.get(*parse_s3_uri(container["ModelDataUrl"]))
            found["ModelDataETag"] = data.info.etag
    return found | container


def containers_of_model(document: Parameters) -> list[Parameters]:
    """Return the containers that a model's document stands for, each with its image."""
    if RESOLVED in document:
        found: list[Parameters] = document[RESOLVED]
        return found
    return document.get("Containers") or [document["PrimaryContainer"]]


def specification_of_model(model: Parameters) -> Parameters:
    """Return the specification of a package whose SourceUri is a model."""
    containers = containers_of_model(model)
    known = models.service_model("sagemaker").shape_for("ModelPackageContainerDefinition").members
    return {
        "Containers": [
            {name: value for name, value in each.items() if name in known and value != {}}
            for each in containers
        ]
    }


def containers_of(package: Parameters, asked: Parameters) -> list[Parameters]:
    """Return the ContainerDefinitions that `asked`, with its ModelPackageName, stands for.

    Raise AwsError unless the package can be deployed.
    """
    arn = package["ModelPackageArn"]
    is_versioned = "ModelPackageVersion" in package
    if is_versioned and package["ModelApprovalStatus"] != APPROVED:
        raise invalid(
            f"Model package {arn} can't be deployed: its ModelApprovalStatus is "
            f"{package['ModelApprovalStatus']}, and must be set to Approved to deploy the model"
        )
    specification = _chosen(package, asked.get("InferenceSpecificationName"))
    for member in ("Image", "ModelDataUrl", "ModelDataSource"):
        if member in asked:
            raise invalid(f"Give either ModelPackageName or {member}: the package has its own")
    several = len(specification["Containers"]) > 1
    if several and "ContainerHostname" in asked:
        raise invalid(f"ContainerHostname can't name the several containers of {arn}")
    return [_definition(each, asked, arn) for each in specification["Containers"]]


def _chosen(package: Parameters, name: str | None) -> Parameters:
    arn = package["ModelPackageArn"]
    if name is not None:
        more: dict[str, Parameters] = {
            each["Name"]: each for each in package.get("AdditionalInferenceSpecifications", [])
        }
        if name not in more:
            raise invalid(
                f"Model package {arn} has no inference specification named {name}. It has: "
                f"{', '.join(more) or 'none'}"
            )
        return more[name]
    if "InferenceSpecification" not in package:
        raise invalid(
            f"Model package {arn} has no InferenceSpecification, which this local region needs to "
            "make a model: add one with UpdateModelPackage"
        )
    found: Parameters = package["InferenceSpecification"]
    return found


def _definition(container: Parameters, asked: Parameters, arn: str) -> Parameters:
    known = models.service_model("sagemaker").shape_for("ContainerDefinition").members
    found: dict[str, Any] = {name: each for name, each in container.items() if name in known}
    environment = {**container.get("Environment", {}), **asked.get("Environment", {})}
    return {**found, **asked, "Environment": environment, "ModelPackageName": arn}
