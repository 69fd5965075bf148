"""What an endpoint runs: its variants, their containers, and the model data of each.

They are read from the documents of the configuration and its models, which the endpoint's own
record keeps: what runs does not change when those are deleted, and is found after a restart.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sagemaker_byoc.contract import archives
from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.region.containers.health import EndpointError
from sagemaker_byoc.region.containers.specs import PRIMARY
from sagemaker_byoc.region.services.s3.store.object_store import ObjectStore
from sagemaker_byoc.region.services.s3.store.objects import S3Error, parse_s3_uri
from sagemaker_byoc.region.services.sagemaker.jobs.inputs import (
    DownloadError,
    Item,
    check_paths,
)
from sagemaker_byoc.region.wire.operations import AwsError, Parameters


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    name: str
    image: str
    environment: Mapping[str, str]
    data: ModelData | None
    isolated: bool = False
    """Whether it receives no keys and no region URL (its model's EnableNetworkIsolation)."""
    role: str = ""
    """ARN of its role; without one, the region's execution role."""


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """`containers` answer one after the other or, if `is_direct`, each by its name."""

    name: str
    containers: tuple[ContainerPlan, ...]
    is_direct: bool
    count: int
    weight: float
    startup_timeout: float
    instance_type: str = ""
    """Empty for a serverless variant."""

    @classmethod
    def from_document(cls, document: Parameters) -> VariantPlan:
        """`document` is a ProductionVariant, with its model's document as "Model"."""
        model = document["Model"]
        only = model.get("PrimaryContainer")
        containers = [only] if only is not None else model["Containers"]
        mode = model.get("InferenceExecutionConfig", {}).get("Mode", "Serial")
        return cls(
            name=document["VariantName"],
            containers=tuple(
                _container(each, _name_of(each, number, len(containers)), model)
                for number, each in enumerate(containers, 1)
            ),
            is_direct=mode == "Direct",
            count=document.get("InitialInstanceCount", 1),
            weight=float(document.get("InitialVariantWeight", 1.0)),
            startup_timeout=float(
                document.get(
                    "ContainerStartupHealthCheckTimeoutInSeconds", hosting.STARTUP_TIMEOUT.value
                )
            ),
            instance_type=document.get("InstanceType", ""),
        )

    def changed(self, *, weight: float | None, count: int | None) -> VariantPlan:
        return replace(
            self,
            weight=self.weight if weight is None else weight,
            count=self.count if count is None else count,
        )


def _name_of(document: Parameters, number: int, total: int) -> str:
    name: str = document.get("ContainerHostname", "")
    return name or (PRIMARY if total == 1 else f"container-{number}")


def _container(document: Parameters, name: str, model: Parameters) -> ContainerPlan:
    return ContainerPlan(
        name,
        document["Image"],
        document.get("Environment", {}),
        data_of(document),
        isolated=bool(model.get("EnableNetworkIsolation")),
        role=model.get("ExecutionRoleArn", ""),
    )


def is_there(data: ModelData, store: ObjectStore) -> bool:
    """Return whether the object, or any below the prefix, exists. Raise AwsError for a bad URI."""
    bucket, key = parse_s3_uri(data.uri)
    try:
        if data.is_archive:
            store.get(bucket, key)
            return True
        return next(store.list(bucket, key), None) is not None
    except S3Error as error:
        if error.code in {"NoSuchBucket", "NoSuchKey"}:
            return False
        raise


def fetch(data: ModelData, store: ObjectStore, folder: Path, container: str) -> None:
    """Fill the empty `folder`. Raise EndpointError with SageMaker's sentence and the cause."""
    bucket, key = parse_s3_uri(data.uri)
    try:
        if data.is_archive:
            archives.unpack(store.get(bucket, key).path, folder)
        else:
            _copy_prefix(store, bucket, key, folder)
    except (AwsError, ContractError, DownloadError, OSError) as error:
        raise EndpointError(
            f'Failed to download model data for container "{container}" from URL: "{data.uri}". '
            "Please ensure that there is an object located at the URL and that the role passed to "
            f"CreateModel has permissions to download the object. ({error})",
            hint="Fix the object, then create the endpoint again",
        ) from error


def _copy_prefix(store: ObjectStore, bucket: str, prefix: str, folder: Path) -> None:
    infos = [*store.list(bucket, prefix)]
    if not infos:
        raise OSError(f"no object's key begins with {prefix!r}")
    names = {info.key: info.key[len(prefix) :].removeprefix("/") for info in infos}
    files = {key: name for key, name in names.items() if name and not key.endswith("/")}
    check_paths(f"s3://{bucket}/{prefix}", [Item(bucket, key, files[key]) for key in files])
    for key, name in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not a link: a container must not be able to change the object.
        shutil.copyfile(store.get(bucket, key).path, target)


@dataclass(frozen=True, slots=True)
class ModelData:
    """An archive, or all objects under a prefix."""

    uri: str
    is_archive: bool


def data_of(document: Parameters) -> ModelData | None:
    """Return the model data of an accepted ContainerDefinition."""
    if document.get("ModelDataUrl"):
        return ModelData(document["ModelDataUrl"], is_archive=True)
    source = document.get("ModelDataSource", {}).get("S3DataSource")
    if source is None:
        return None
    return ModelData(source["S3Uri"], is_archive=source["CompressionType"] == "Gzip")
