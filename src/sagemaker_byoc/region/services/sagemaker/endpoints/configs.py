"""Endpoint configurations: which models, on how many instances, with which share of the traffic.

What an endpoint runs is read from the documents of the configuration and its models, which the
endpoint's own record keeps: what runs does not change when those are deleted, and is found after a
restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sagemaker_byoc.contract import http as hosting
from sagemaker_byoc.region.containers.specs import PRIMARY
from sagemaker_byoc.region.services.s3.store.objects import parse_s3_uri
from sagemaker_byoc.region.services.sagemaker import state_changes
from sagemaker_byoc.region.services.sagemaker.context import RegionContext
from sagemaker_byoc.region.services.sagemaker.model_registry.specifications import (
    containers_of_model,
)
from sagemaker_byoc.region.services.sagemaker.models import (
    ModelData,
    Models,
    is_multi_model,
    sources_of,
)
from sagemaker_byoc.region.services.sagemaker.resources import Kind, echoed, invalid, not_here
from sagemaker_byoc.region.wire.operations import Operations, Parameters

CONFIG = Kind(
    noun="endpoint configuration",
    member="EndpointConfig",
    resource="endpoint-config",
    folder="endpoint-configs",
    event=state_changes.ENDPOINT_CONFIG,
)
MOST_VARIANTS = 10
"""Source: service model, ProductionVariantList.max."""
MOST_INSTANCES = 16
"""Most instances of a variant, so that a typing error does not start a thousand."""
SERVERLESS_MEMORY = (1024, 2048, 3072, 4096, 5120, 6144)
"""Source: developer guide, serverless-endpoints, memory size."""
_OF_INSTANCES = (
    "InstanceType",
    "InstancePools",
    "InitialInstanceCount",
    "AcceleratorType",
    "VolumeSizeInGB",
)
"""Members of a variant with instances."""
_NOT_HERE = {
    "AsyncInferenceConfig": "Leave it out and invoke the endpoint synchronously",
    "ExplainerConfig": "Leave it out",
    "ShadowProductionVariants": "Leave them out, or give them as ProductionVariants with a weight",
}


class EndpointConfigs:
    def __init__(self, context: RegionContext, models: Models) -> None:
        self.resources = context.resources(CONFIG)
        self._models = models.resources

    def operations(self) -> Operations:
        return {**self.resources.operations(), "CreateEndpointConfig": self.create}

    async def create(self, asked: Parameters) -> Parameters:
        name = asked["EndpointConfigName"]
        for part, hint in _NOT_HERE.items():
            if asked.get(part):
                raise not_here(part, hint)
        variants = asked["ProductionVariants"]
        if len(variants) > MOST_VARIANTS:
            raise invalid(f"An endpoint configuration has at most {MOST_VARIANTS} variants")
        names = [variant["VariantName"] for variant in variants]
        if len(set(names)) != len(names):
            raise invalid("Each VariantName of an endpoint configuration must be unique")
        _check_capture(asked)
        self._check_serverless(asked, variants)
        members = {"EnableNetworkIsolation": False, **echoed(asked, "DescribeEndpointConfigOutput")}
        document = self.resources.new(name, **members)
        document["ProductionVariants"] = [self._checked(variant) for variant in variants]
        self.resources.add(name, document, asked.get("Tags", ()))
        return {"EndpointConfigArn": document["EndpointConfigArn"]}

    def variants(self, name: str) -> list[Parameters]:
        """Return the variants with their models' documents. Raise AwsError if a model is gone."""
        return [
            {**variant, "Model": self._models.get(variant["ModelName"])}
            for variant in self.resources.get(name)["ProductionVariants"]
        ]

    def _checked(self, variant: Parameters) -> Parameters:
        """Return the variant with SageMaker's defaults. Raise AwsError if it is refused."""
        name = variant["VariantName"]
        if "ModelName" not in variant:
            raise not_here(f"Variant {name} without a ModelName", "Name the model that it serves")
        self._models.get(variant["ModelName"])
        if variant.get("InitialVariantWeight", 1.0) < 0:
            raise invalid(f"InitialVariantWeight of variant {name} is below 0")
        if "ManagedInstanceScaling" in variant:
            raise invalid(
                "ManagedInstanceScaling is only supported for inference component endpoints."
            )
        if "ServerlessConfig" in variant:
            return {"InitialVariantWeight": 1.0, **variant}
        if not ("InstanceType" in variant or "InstancePools" in variant):
            raise invalid(f"Variant {name} needs an InstanceType or a ServerlessConfig")
        count = variant.get("InitialInstanceCount", 1)
        check_count(name, count, least=1)
        return {"InitialVariantWeight": 1.0, "InitialInstanceCount": count, **variant}

    def _check_serverless(self, asked: Parameters, variants: list[Parameters]) -> None:
        """Source: developer guide, serverless-endpoints: memory size, feature exclusions."""
        serverless = [variant for variant in variants if "ServerlessConfig" in variant]
        if not serverless:
            return
        if len(variants) > 1:
            raise invalid("A serverless endpoint has one variant only.")
        for part in ("VpcConfig", "KmsKeyId"):
            if asked.get(part):
                raise invalid(f"{part} is not supported for serverless variants.")
        _check_serverless_variant(serverless[0])
        model = self._models.get(serverless[0]["ModelName"])
        if model.get("VpcConfig") or model.get("EnableNetworkIsolation"):
            raise invalid(
                "VpcConfig and EnableNetworkIsolation of a model are not supported for serverless "
                "variants."
            )
        containers = containers_of_model(model)
        if len(containers) > 1:
            raise invalid("A serverless variant serves a model of one container only.")
        if is_multi_model(containers[0]):
            raise invalid("A serverless variant can't serve a multi-model container.")


def _check_serverless_variant(variant: Parameters) -> None:
    name, config = variant["VariantName"], variant["ServerlessConfig"]
    for part in _OF_INSTANCES:
        if part in variant:
            raise invalid(f"Variant {name} has both a ServerlessConfig and {part}")
    if config["MemorySizeInMB"] not in SERVERLESS_MEMORY:
        sizes = ", ".join(map(str, SERVERLESS_MEMORY))
        raise invalid(
            f"MemorySizeInMB {config['MemorySizeInMB']} of variant {name} is not one of {sizes}"
        )
    if config.get("ProvisionedConcurrency", 0) > config["MaxConcurrency"]:
        raise invalid(f"ProvisionedConcurrency of variant {name} is more than its MaxConcurrency")


def _check_capture(asked: Parameters) -> None:
    """Source: developer guide, model-monitor-data-capture-endpoint, serverless-endpoints."""
    config = asked.get("DataCaptureConfig")
    if config is None:
        return
    parse_s3_uri(config["DestinationS3Uri"])
    if any("ServerlessConfig" in variant for variant in asked["ProductionVariants"]):
        raise invalid("DataCaptureConfig is not supported for serverless variants.")


def check_count(variant: str, count: int, least: int) -> None:
    if count < least:
        raise invalid(f"Variant {variant} needs at least {least} instance")
    if count > MOST_INSTANCES:
        raise invalid(
            f"Variant {variant}: this local region runs at most {MOST_INSTANCES} instances of a "
            f"variant, not {count}"
        )


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    name: str
    image: str
    environment: Mapping[str, str]
    sources: Mapping[str, ModelData]
    """The model and other data, by their folders below /opt/ml."""
    isolated: bool = False
    """Whether it receives no keys and no region URL (its model's EnableNetworkIsolation)."""
    role: str = ""
    """ARN of its role; without one, the region's execution role."""
    models: str = ""
    """The prefix of the archives of a multi-model container; empty for any other."""


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
        containers = containers_of_model(model)
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


def _name_of(document: Parameters, number: int, total: int) -> str:
    name: str = document.get("ContainerHostname", "")
    return name or (PRIMARY if total == 1 else f"container-{number}")


def _container(document: Parameters, name: str, model: Parameters) -> ContainerPlan:
    return ContainerPlan(
        name,
        document["Image"],
        document.get("Environment", {}),
        sources_of(document),
        isolated=bool(model.get("EnableNetworkIsolation")),
        role=model.get("ExecutionRoleArn", ""),
        models=document["ModelDataUrl"] if is_multi_model(document) else "",
    )
