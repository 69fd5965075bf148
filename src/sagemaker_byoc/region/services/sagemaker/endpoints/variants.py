"""What an endpoint is to run, read from the documents of its configuration and its models.

The documents are kept in the endpoint's own record: what runs does not change when a configuration
or a model is deleted, and is found again after a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sagemaker_byoc.contract.hosting import http as hosting
from sagemaker_byoc.region.wire.service import Parameters

PRIMARY = "primary"
"""What SageMaker calls the container of a model that has only one."""


@dataclass(frozen=True, slots=True)
class ModelData:
    """An archive, or all objects under a prefix."""

    uri: str
    is_archive: bool


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    name: str
    image: str
    environment: Mapping[str, str]
    data: ModelData | None
    isolated: bool = False
    """It gets neither keys nor the region's URL (EnableNetworkIsolation of its model)."""
    role: str = ""
    """ARN of the role that it works as; the region's execution role without one."""


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """`containers` answer one after the other, or, where `is_direct`, each by its name."""

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


def data_of(document: Parameters) -> ModelData | None:
    """Of a ContainerDefinition that has been accepted."""
    if document.get("ModelDataUrl"):
        return ModelData(document["ModelDataUrl"], is_archive=True)
    source = document.get("ModelDataSource", {}).get("S3DataSource")
    if source is None:
        return None
    return ModelData(source["S3Uri"], is_archive=source["CompressionType"] == "Gzip")
